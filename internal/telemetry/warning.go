package telemetry

import (
	"sync"
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

// maxRejections is how many errors are told apart.
const maxRejections = 32

// rejections warn of each error that requests are refused with, at most once a
// minute: anybody can send such requests.
type rejections struct {
	mu  sync.Mutex
	all map[string]*warning // by the text of the error
}

// raise counts a request that was refused. It calls log as warning.raise does.
func (r *rejections) raise(err error, log func(requests int64)) { r.of(err.Error()).raise(log) }

func (r *rejections) of(text string) *warning {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[string]*warning)
	}
	if r.all[text] == nil && len(r.all) >= maxRejections {
		text = ""
	}
	if r.all[text] == nil {
		r.all[text] = newWarning()
	}
	return r.all[text]
}
