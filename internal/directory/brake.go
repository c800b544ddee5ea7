package directory

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

const (
	// minSeen is how many users must have been seen lately for their share to
	// mean anything.
	minSeen = 10
	// maxSample is how many of them are asked for.
	maxSample = maxBatch
)

// brake keeps sessions from being ended when too many would end at once.
type brake struct {
	p      *Postgres
	share  float64
	window instant

	braking atomic.Bool

	mu   sync.Mutex
	live map[string]instant // users seen live in the window: when

	deciding sync.Mutex
	decided  instant // when the users of the last decision were asked for
}

// Braking tells whether so many sessions would end at once that something else
// must be wrong.
func (p *Postgres) Braking() bool {
	// Before any user was found, nothing shows that the database is the right one.
	return p.brake.share > 0 && (p.brake.braking.Load() || !p.journal.found.Load())
}

// seen notes that a user was seen.
func (b *brake) seen(subject string, a *Account, now instant) {
	if b.share == 0 || a.Disabled || b.braking.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.live == nil {
		b.live = make(map[string]instant)
	}
	if len(b.live) >= b.p.config.Size {
		clear(b.live)
	}
	b.live[subject] = now
}

// release takes the brake off: the users are others now.
func (b *brake) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live = nil
	if b.braking.Swap(false) {
		b.p.happened(BrakeOff, nil)
	}
}

// check decides whether to brake, when a user was found gone, by asking for
// those who were seen live lately.
func (b *brake) check(ctx context.Context, conn *pgx.Conn, found []finding) {
	if b.share == 0 || !anyGone(found) {
		return
	}
	b.deciding.Lock()
	defer b.deciding.Unlock()
	if found[0].account.asked < b.decided { // that was later than this
		return
	}
	now := b.p.instant(b.p.now())
	sample := b.sample(now)
	if len(sample) < minSeen {
		return
	}
	again, err := b.p.findOn(ctx, conn, sample)
	if err != nil {
		return // no decision by this
	}
	b.decided = now
	gone := 0
	for _, f := range again {
		if !f.account.Exists || f.account.Disabled {
			gone++
		}
	}
	on := float64(gone) > b.share*float64(len(again))
	if b.braking.Swap(on) == on {
		return
	}
	if !on {
		b.p.log().Warn("the brake is off: sessions are ended again")
		b.p.happened(BrakeOff, nil)
		return
	}
	likely := b.cause(ctx, conn)
	b.p.log().Error("the brake is on: too many sessions would end at once, so none is ended",
		zap.Int("gone", gone), zap.Int("seen", len(again)), zap.String("likely", likely))
	b.p.happened(BrakeOn, map[string]any{"gone": gone, "seen": len(again), "likely": likely})
}

func anyGone(found []finding) bool {
	for _, f := range found {
		if !f.account.Exists || f.account.Disabled {
			return true
		}
	}
	return false
}

// sample returns users that were seen live in the window. While it is braking
// they do not get older.
func (b *brake) sample(now instant) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var subjects []string
	for subject, seen := range b.live { // in no order
		if !b.braking.Load() && now-seen > b.window {
			delete(b.live, subject)
		} else if len(subjects) < maxSample {
			subjects = append(subjects, subject)
		}
	}
	return subjects
}

// cause guesses what is wrong.
func (b *brake) cause(ctx context.Context, conn *pgx.Conn) string {
	s := b.p.statement.Load()
	if s == nil || s.table == "" {
		return "`query` does not find them any more"
	}
	var rows, security bool
	err := conn.QueryRow(ctx, "select exists (select from "+s.table+"), (select relrowsecurity from pg_class where oid = to_regclass($1))", s.table).Scan(&rows, &security)
	switch {
	case err != nil:
		return "the users table cannot be read"
	case security:
		return "row-level security hides rows of the users table from the role"
	case !rows:
		return "the users table is empty: another database or search_path than the app's, or a reset without a new table"
	}
	return "the users table has other rows: another database or search_path than the app's, a restored snapshot, or a mass deletion"
}
