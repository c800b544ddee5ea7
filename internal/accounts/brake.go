package accounts

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

const (
	// minSeen is how many users must have been seen lately for their share to
	// mean anything.
	minSeen = 10
	// maxSample is how many of them are looked up.
	maxSample = maxBatch
	// minAge is how old an account must be to count. Accounts that somebody makes to
	// delete them again must not hold the brake.
	minAge = time.Hour
	// maxHold is how long a user who is gone holds the brake.
	maxHold = instant(24 * time.Hour)
)

// brake keeps sessions from ending when too many would end at once.
//
// It goes on by the share of those who were seen live in the window. From then on,
// everybody counts whom it knows from before and who comes back, gone or not: what
// was the most of a quiet minute may be few of all. Who is new does not count: anybody
// could make accounts, and delete them.
type brake struct {
	e      *Engine
	share  float64
	window instant

	braking atomic.Bool

	mu       sync.Mutex
	live     map[string]sighting // the users who count
	before   map[string]struct{} // those who were seen live before the window
	released instant             // when all users were replaced last

	deciding sync.Mutex
	decided  instant // when the users of the last decision were looked up
}

// sighting is how a user was seen last.
type sighting struct {
	at   instant
	gone bool // found gone since
}

// Braking reports whether so many sessions would end at once that something
// else must be wrong.
func (e *Engine) Braking() bool {
	// Before any user was found, nothing shows that the database is the right one.
	return e.brake.share > 0 && (e.brake.braking.Load() || !e.found.Load())
}

// Succeed takes over from an engine of the same directory, which may be closed, that
// some user was found.
func (e *Engine) Succeed(former *Engine) {
	if e.name == former.name && former.found.Load() {
		e.found.Store(true)
	}
}

// seen records that a user was seen. An account that was looked up before all
// users were replaced is not one of them.
func (b *brake) seen(subject string, a *Account, now instant) {
	gone, braking := noneLive(&a.Account), b.braking.Load()
	if b.share == 0 || gone && !braking || b.young(a) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.asked < b.released {
		return
	}
	if braking {
		known, counts := b.live[subject]
		if _, returns := b.before[subject]; !counts && !returns || counts && (gone || known.gone) {
			return
		}
		delete(b.before, subject)
	}
	if b.live == nil {
		b.live = make(map[string]sighting)
	}
	if len(b.live) >= b.e.config.Size {
		clear(b.live)
	}
	b.live[subject] = sighting{now, gone}
}

// returned records that users were looked up while the brake is on.
func (b *brake) returned(found []result, confirmed bool) {
	now := b.e.instant(b.e.now())
	for _, f := range found {
		if f.err == nil && (f.account.Exists || confirmed) {
			b.seen(string(f.key), f.account, now)
		}
	}
}

// young reports whether an account is too young to count.
func (b *brake) young(a *Account) bool {
	return a.Exists && !a.CreatedAt.IsZero() && b.e.now().Sub(a.CreatedAt) < minAge
}

// release takes the brake off, because all users were replaced.
func (b *brake) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live, b.before, b.released = nil, nil, b.e.instant(b.e.now())
	if b.braking.Swap(false) {
		b.e.happened(BrakeOff, nil)
	}
}

// clear drops all users.
func (b *brake) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live, b.before = nil, nil
}

// check decides whether to brake, when a user was found gone, by looking up
// those who were seen live lately. An absence counts once it is confirmed.
func (b *brake) check(ctx context.Context, look lookup, found []result, confirmed bool) {
	if b.share == 0 {
		return
	}
	if b.braking.Load() {
		b.returned(found, confirmed)
	}
	if !anyGone(found, confirmed) {
		return
	}
	b.deciding.Lock()
	defer b.deciding.Unlock()
	if found[0].account.asked < b.decided { // a later lookup has decided
		return
	}
	now := b.e.instant(b.e.now())
	sample := b.sample(now)
	if len(sample) < minSeen {
		return
	}
	again, err := b.e.find(ctx, look, sample)
	if err != nil {
		return // no decision by this
	}
	b.decided = now
	missing := b.mark(again)
	on := float64(missing) > b.share*float64(len(again))
	if !b.decide(on, now) {
		return
	}
	if !on {
		b.e.config.Logger().Warn("brake off: sessions end again")
		b.e.happened(BrakeOff, nil)
		b.e.tell(nil)
		return
	}
	likely := "another database than the app's, a restored snapshot, or a mass deletion"
	if explainer, ok := b.e.directory.(directories.Explainer); ok {
		likely = explainer.Explain(ctx)
	}
	b.e.config.Logger().Error("brake on: too many sessions would end at once, so none does",
		zap.Int("gone", missing), zap.Int("seen", len(again)), zap.String("likely", likely))
	b.e.happened(BrakeOn, map[string]any{"gone": missing, "seen": len(again), "likely": likely})
}

// decide switches the brake, and reports whether it was not so before. Users who
// were seen before all were replaced decide nothing. Those who are gone count no
// longer once their sessions may end.
func (b *brake) decide(on bool, asked instant) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if asked <= b.released || b.braking.Swap(on) == on {
		return false
	}
	if !on {
		maps.DeleteFunc(b.live, func(_ string, seen sighting) bool { return seen.gone })
	}
	return true
}

func anyGone(found []result, confirmed bool) bool {
	for _, f := range found {
		if f.err == nil && noneLive(&f.account.Account) && (f.account.Exists || confirmed) {
			return true
		}
	}
	return false
}

// sample returns users who count: those that were seen live in the window, and while
// the brake is on, also those that have come back since.
func (b *brake) sample(now instant) []directories.Query {
	b.mu.Lock()
	defer b.mu.Unlock()
	life := b.window
	if b.braking.Load() {
		life = max(life, maxHold)
	}
	var queries []directories.Query
	for subject, seen := range b.live { // in no order
		switch {
		case now-seen.at > life:
			b.forget(subject, seen)
		case len(queries) < maxSample:
			queries = append(queries, directories.Query{Subject: []byte(subject)})
		}
	}
	return queries
}

// forget takes a user out of those who count. The caller holds b.mu.
func (b *brake) forget(subject string, seen sighting) {
	delete(b.live, subject)
	if seen.gone {
		return
	}
	if b.before == nil || len(b.before) >= b.e.config.Size {
		b.before = make(map[string]struct{})
	}
	b.before[subject] = struct{}{}
}

// mark records which users of the sample are gone, and returns how many.
func (b *brake) mark(sample []result) (missing int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range sample {
		seen, counts := b.live[string(f.key)]
		gone := f.err == nil && noneLive(&f.account.Account)
		if gone {
			missing++
		}
		if counts && f.err == nil {
			b.live[string(f.key)] = sighting{seen.at, gone}
		}
	}
	return missing
}
