package directory

import (
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
)

// Stats says how a directory fares.
type Stats struct {
	// Accounts is how its cache is used.
	Accounts cache.Stats
	// Watching tells whether it knows of changes of the database.
	Watching bool
	// Notified tells whether triggers tell it of them at once.
	Notified bool
	// Broken tells that nobody waits for the database, because it is away.
	Broken bool
	// Blind tells that changes are not noticed, though they should be.
	Blind bool
	// Failure is the failure to look accounts up that lasts, with what to do;
	// empty for none.
	Failure string
	// Users is what was found of the users table.
	Users string
	// Braking tells that it holds sessions back from being ended.
	Braking bool
	// Connections are those for lookups: how many there are, and how many of
	// them are in use.
	Connections, Busy int32
	// Rechecked counts accounts that were looked up because something was
	// changed, Epochs how often the users table was recreated or emptied,
	// Notifications those that have arrived.
	Rechecked, Epochs, Notifications uint64
	// ResetAt is when the last of the epochs began, zero for never.
	ResetAt time.Time
}

// stats returns the figures that all directories have.
func (b *backend) stats() Stats {
	s := Stats{Accounts: b.accounts.cache.Stats(), Broken: b.away(), Blind: b.journal.blind.Load()}
	s.Failure, s.Users = b.journal.state()
	return s
}

// Stats returns the figures of the directory since it was opened.
func (p *Postgres) Stats() Stats {
	s := p.stats()
	s.Braking = p.Braking()
	for _, pool := range []*pgxpool.Pool{p.pool, p.primary} {
		if pool != nil {
			s.Connections, s.Busy = s.Connections+pool.Stat().TotalConns(), s.Busy+pool.Stat().AcquiredConns()
		}
	}
	if w := p.watch; w != nil {
		s.Watching = w.connected(p.instant(p.now()))
		s.Notified = hearing(w.ears.hearing.Load()) == told
		s.Rechecked, s.Epochs, s.Notifications = w.rechecked.Load(), w.epochs.Load(), w.ears.heard.Load()
		if at := w.resetAt.Load(); at != 0 {
			s.ResetAt = time.Unix(0, at).UTC()
		}
	}
	return s
}
