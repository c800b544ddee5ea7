package directory

import (
	"context"
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"
)

// breakAfter failures in a row nobody waits for the place any more. From the
// first one on it is tried every breakFor, until it answers.
const (
	breakAfter = 3
	breakFor   = time.Second
)

func newBreaker(at place) *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:      breakFor,
		ReadyToTrip:  func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= breakAfter },
		IsSuccessful: func(err error) bool { return err == nil || !at.down(err) },
	})
}

// away tells whether nobody waits for the place.
func (b *backend) away() bool { return b.breaker.State() != gobreaker.StateClosed }

// guarded asks the place, for no longer than a query may take. While the
// breaker is open the answer is errAway, at once.
func (b *backend) guarded(ask func(context.Context) error) error {
	_, err := b.breaker.Execute(func() (struct{}, error) { return struct{}{}, b.bounded(ask) })
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return b.errAway
	}
	return err
}

// bounded asks the place, for no longer than a query may take.
func (b *backend) bounded(ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(b.running, queryTimeout)
	defer cancel()
	return ask(ctx)
}

// note notes how asking the place went.
func (b *backend) note(err error) {
	switch {
	case err == nil:
		b.journal.succeeded()
	case err == error(b.errAway): //nolint:errorlint // it is never wrapped
	case b.running.Err() != nil: // closed: that says nothing of the place
	default:
		b.failed(err)
	}
}

// failed notes that the place could not be asked, and has it tried until it
// answers. A failure that is of one subject alone is for the journal only: that
// the place answers says nothing of it.
func (b *backend) failed(err error) {
	b.journal.failed(err)
	if !b.probing.Load() {
		b.background(b.probe)
	}
}

// failing tells whether nobody waits for the place, or the last word of it was
// a failure.
func (b *backend) failing() bool { return b.away() || b.journal.lasts.Load() }

// probe tries the place until it answers, so that no request has to, and so
// that it is known to be back when there is none. There is one at a time.
func (b *backend) probe() {
	for b.failing() && b.probing.CompareAndSwap(false, true) { // again: it may have failed just before probing was unset
		for wait := breakFor; b.failing(); {
			if !b.pause(wait) {
				return // closed: probing stays set, so that none begins
			}
			wait = breakFor
			switch b.breaker.State() {
			case gobreaker.StateOpen: // requests have opened it a moment ago
				wait = breakFor / 10
			case gobreaker.StateHalfOpen:
				b.note(b.guarded(b.place.try))
			case gobreaker.StateClosed: // that is for requests to open
				b.note(b.bounded(b.place.try))
			}
		}
		b.probing.Store(false)
	}
}
