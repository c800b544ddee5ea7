package accounts

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
)

// After breakAfter failures in a row, the breaker opens: nobody waits for the
// directory. From the first failure on, it is probed every breakFor until it
// answers.
const (
	breakAfter = 3
	breakFor   = time.Second
)

func newBreaker() *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:      breakFor,
		ReadyToTrip:  func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= breakAfter },
		IsSuccessful: func(err error) bool { return err == nil || answered(err) },
	})
}

// answered reports whether an error is an answer of the directory, so that it
// costs no time to ask again: the users table is missing, say, or one user
// could not be confirmed, while others can.
func answered(err error) bool {
	return slices.Contains([]directories.Class{directories.Schema, directories.Rights, directories.Standby, directories.Unproven}, classified(err).Class)
}

// classified returns an error as an *Error; nil for none.
func classified(err error) *directories.Error {
	var known *directories.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.DeadlineExceeded):
		return &directories.Error{Class: directories.Slow, Text: err.Error()}
	}
	return &directories.Error{Class: directories.Other, Text: err.Error()}
}

// away reports whether the circuit is open.
func (e *Engine) away() bool { return e.breaker.State() != gobreaker.StateClosed }

// guarded asks the directory as bounded does. While the circuit is open it returns
// errAway at once.
func (e *Engine) guarded(ask func(context.Context) error) error {
	_, err := e.breaker.Execute(func() (struct{}, error) { return struct{}{}, e.bounded(ask) })
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return e.errAway
	}
	return err
}

// bounded asks the directory, for at most deadline.Query, or for as long as a request
// waits: the operator may have raised that for a database that sleeps.
func (e *Engine) bounded(ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(e.running, max(deadline.Query, e.config.Timeout))
	defer cancel()
	return ask(ctx)
}

// note records how a lookup went.
func (e *Engine) note(subject string, err error) {
	switch {
	case err == nil:
		e.journal.succeeded()
		e.answers.Store(true) // last: if another lookup fails just now, the probe corrects it
	case err == error(e.errAway): //nolint:errorlint // it is never wrapped
	case e.running.Err() != nil: // closed: that says nothing about the directory
	default:
		e.answers.Store(false)
		e.failed(subject, err)
	}
}

// failed records a failed lookup, and probes the directory until it answers.
func (e *Engine) failed(subject string, err error) {
	e.journal.failed(err)
	e.failedOn.Store(&subject)
	if !e.probing.Load() {
		e.background(e.probe)
	}
}

// failing reports whether the circuit is open or the last lookup has failed.
func (e *Engine) failing() bool { return e.away() || e.journal.lasts.Load() }

// Answers reports whether lookups succeed, without waiting for one. If there was none
// yet, one begins, and is repeated until the directory answers.
func (e *Engine) Answers() bool {
	if e.answers.Load() {
		return true
	}
	e.starting.Do(func() {
		e.background(func() {
			const nobody = "0" // can be an id of any type
			e.note(nobody, e.guarded(func(ctx context.Context) error { return e.try(ctx, nobody) }))
		})
	})
	return false
}

// probe looks the subject up whose lookup failed until that is answered, so that
// no request has to, and so that recovery is noticed without requests. One runs
// at a time.
func (e *Engine) probe() {
	for e.failing() && e.probing.CompareAndSwap(false, true) { // again: it may have failed just before probing was unset
		for wait := breakFor; e.failing(); {
			if !e.pause(wait) {
				return // closed: probing stays set, so that none begins
			}
			wait = breakFor
			subject := *e.failedOn.Load()
			switch e.breaker.State() {
			case gobreaker.StateOpen: // requests have opened it a moment ago
				wait = breakFor / 10
			case gobreaker.StateHalfOpen:
				e.note(subject, e.guarded(func(ctx context.Context) error { return e.try(ctx, subject) }))
			case gobreaker.StateClosed: // only requests open it
				e.note(subject, e.bounded(func(ctx context.Context) error { return e.try(ctx, subject) }))
			}
		}
		e.probing.Store(false)
	}
}

// try looks a subject up. It does not confirm: that a primary hangs must not keep
// the circuit open for the users that a replica knows.
func (e *Engine) try(ctx context.Context, subject string) error {
	_, err := e.find(ctx, e.directory.Lookup, []directories.Query{{Subject: []byte(subject)}})
	return err
}
