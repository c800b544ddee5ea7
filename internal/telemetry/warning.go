package telemetry

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// warning is logged while requests look as if the configuration is wrong, at
// most once a minute. The first request that looks right dismisses it for good.
type warning struct {
	dismissed atomic.Bool
	requests  atomic.Int64
	limit     rate.Sometimes
}

func newWarning() *warning {
	return &warning{limit: rate.Sometimes{Interval: time.Minute}}
}

// raise counts a request that looks wrong. It calls log with the number of such
// requests, unless that was done within the last minute.
func (w *warning) raise(log func(requests int64)) {
	if w.dismissed.Load() {
		return
	}
	requests := w.requests.Add(1)
	w.limit.Do(func() { log(requests) })
}

// dismiss ends the warning.
func (w *warning) dismiss() {
	if !w.dismissed.Load() { // no write that other processors wait for
		w.dismissed.Store(true)
	}
}
