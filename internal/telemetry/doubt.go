package telemetry

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Doubt is a suspicion that something is configured wrong, raised by each
// request that looks like it, and voiced at once and then at most once a
// minute. One request that looks right settles it for good.
type Doubt struct {
	settled atomic.Bool
	raised  atomic.Int64
	voice   rate.Sometimes
}

// NewDoubt returns a doubt that nothing has raised yet.
func NewDoubt() *Doubt {
	return &Doubt{voice: rate.Sometimes{Interval: time.Minute}}
}

// Raise calls say, when it is time to, with the number of times that the
// doubt was raised so far.
func (d *Doubt) Raise(say func(times int64)) {
	if d.settled.Load() {
		return
	}
	times := d.raised.Add(1)
	d.voice.Do(func() { say(times) })
}

// Settle ends the doubt.
func (d *Doubt) Settle() {
	if !d.settled.Load() {
		d.settled.Store(true)
	}
}
