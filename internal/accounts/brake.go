package accounts

import (
	"context"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

const (
	// minSeen is how many users must have been seen lately for their share to
	// mean anything.
	minSeen = 10
	// maxSample is how many of them are looked up.
	maxSample = maxBatch
)

// brake keeps sessions from ending when too many would end at once.
type brake struct {
	e      *Engine
	share  float64
	window instant

	braking atomic.Bool

	mu       sync.Mutex
	live     map[string]instant // users seen live in the window: when
	released instant            // when all users were replaced last

	deciding sync.Mutex
	decided  instant // when the users of the last decision were looked up
}

// Braking reports whether so many sessions would end at once that something
// else must be wrong.
func (e *Engine) Braking() bool {
	// Before any user was found, nothing shows that the database is the right one.
	return e.brake.share > 0 && (e.brake.braking.Load() || !e.found.Load())
}

// seen records that a user was seen. An account that was looked up before all
// users were replaced is not one of them.
func (b *brake) seen(subject string, a *Account, now instant) {
	if b.share == 0 || noneLive(&a.Account) || b.braking.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.asked < b.released {
		return
	}
	if b.live == nil {
		b.live = make(map[string]instant)
	}
	if len(b.live) >= b.e.config.Size {
		clear(b.live)
	}
	b.live[subject] = now
}

// release takes the brake off, because all users were replaced.
func (b *brake) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live, b.released = nil, b.e.instant(b.e.now())
	if b.braking.Swap(false) {
		b.e.happened(BrakeOff, nil)
	}
}

// check decides whether to brake, when a user was found gone, by looking up
// those who were seen live lately. An absence counts once it is confirmed.
func (b *brake) check(ctx context.Context, look lookup, found []result, confirmed bool) {
	if b.share == 0 || !anyGone(found, confirmed) {
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
	missing := 0
	for _, f := range again {
		if f.err == nil && noneLive(&f.account.Account) {
			missing++
		}
	}
	on := float64(missing) > b.share*float64(len(again))
	if !b.decide(on, now) {
		return
	}
	if !on {
		b.e.config.Logger().Warn("brake off: sessions end again")
		b.e.happened(BrakeOff, nil)
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
// were seen before all were replaced decide nothing.
func (b *brake) decide(on bool, asked instant) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return asked > b.released && b.braking.Swap(on) != on
}

func anyGone(found []result, confirmed bool) bool {
	for _, f := range found {
		if f.err == nil && noneLive(&f.account.Account) && (f.account.Exists || confirmed) {
			return true
		}
	}
	return false
}

// sample returns users that were seen live in the window. While the brake is
// on, they do not expire.
func (b *brake) sample(now instant) []directories.Query {
	b.mu.Lock()
	defer b.mu.Unlock()
	var queries []directories.Query
	for subject, seen := range b.live { // in no order
		if !b.braking.Load() && now-seen > b.window {
			delete(b.live, subject)
		} else if len(queries) < maxSample {
			queries = append(queries, directories.Query{Subject: []byte(subject)})
		}
	}
	return queries
}
