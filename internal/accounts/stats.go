package accounts

import (
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
)

// Stats is the state of an engine, with counters since it was opened.
type Stats struct {
	directories.Description

	// Accounts is the state of the cache.
	Accounts cache.Stats
	// Watching reports whether changes are noticed.
	Watching bool
	// Broken reports whether the circuit breaker is open: nobody waits for the
	// directory.
	Broken bool
	// Blind reports whether changes should be noticed, but are not.
	Blind bool
	// Failure is the failure of the last lookup, or else why the last lookup that
	// should have proven that a session is stale did not, with what to do; empty if
	// both succeeded.
	Failure string
	// Braking reports whether the brake keeps sessions from ending.
	Braking bool
	// Rechecked counts accounts that were looked up because something had
	// changed, Epochs how often all users were replaced, Notifications the
	// changes that the directory reported.
	Rechecked, Epochs, Notifications uint64
	// ResetAt is when all users were replaced last; zero for never.
	ResetAt time.Time
}

// Stats returns the state of the engine.
func (e *Engine) Stats() Stats {
	s := Stats{
		Accounts: e.store.cache.Stats(), Broken: e.away(), Blind: e.journal.blind.Load(),
		Failure: e.journal.lastFailure(), Braking: e.Braking(), Notifications: e.watch.notifications.Load(),
	}
	if d, ok := e.directory.(directories.Describer); ok {
		s.Description = d.Describe()
	}
	if w := &e.watch; w.watcher != nil {
		s.Watching = w.connected(e.instant(e.now()))
		s.Notified = s.Notified && s.Watching
		s.Rechecked, s.Epochs = w.rechecked.Load(), w.epochs.Load()
		if at := w.resetAt.Load(); at != 0 {
			s.ResetAt = time.Unix(0, at).UTC()
		}
	}
	return s
}
