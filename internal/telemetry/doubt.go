package telemetry

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// doubt is a suspicion that something is configured wrong, raised by each
// request that looks like it, and voiced at once and then at most once a
// minute. One request that looks right settles it for good.
type doubt struct {
	settled atomic.Bool
	raised  atomic.Int64
	voice   rate.Sometimes
}

// newDoubt returns a doubt that nothing has raised yet.
func newDoubt() *doubt {
	return &doubt{voice: rate.Sometimes{Interval: time.Minute}}
}

// raise calls say, when it is time to, with the number of times that the
// doubt was raised so far.
func (d *doubt) raise(say func(times int64)) {
	if d.settled.Load() {
		return
	}
	times := d.raised.Add(1)
	d.voice.Do(func() { say(times) })
}

// settle ends the doubt.
func (d *doubt) settle() {
	if !d.settled.Load() {
		d.settled.Store(true)
	}
}
