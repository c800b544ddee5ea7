package revocation

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// minRetry and maxRetry bound the time until a store is tried again.
	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second
	// firstRead is how long requests wait until the stores were read for the
	// first time.
	firstRead = time.Second
	// logPeriod is how often the same problem is logged.
	logPeriod = 30 * time.Second
)

// Ready starts to follow the stores, and reports whether they were read for the
// first time, or firstRead is over.
func (l *List) Ready() bool {
	if l.isReady.Load() {
		return true
	}
	l.start.Do(l.followAll)
	return false
}

// Await starts to follow the stores, and waits until they were read for the first
// time, firstRead is over, or ctx is done.
func (l *List) Await(ctx context.Context) {
	if l.Ready() {
		return
	}
	select {
	case <-l.ready:
	case <-ctx.Done():
	}
}

func (l *List) followAll() {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	var reading sync.WaitGroup
	for _, store := range []Store{l.config.Shared, l.config.Local} {
		if store != nil {
			reading.Add(1)
			l.running.Go(func() { l.follow(ctx, store, sync.OnceFunc(reading.Done)) })
		}
	}
	if l.config.Shared != nil {
		l.running.Go(func() { l.flushPending(ctx) })
	}
	read := make(chan struct{})
	l.running.Go(func() { reading.Wait(); close(read) })
	l.running.Go(func() {
		timer := time.NewTimer(firstRead)
		defer timer.Stop()
		select {
		case <-read:
		case <-timer.C:
		}
		l.isReady.Store(true)
		close(l.ready)
	})
}

// follow follows a store until the list is closed. It calls tried after the first
// attempt to read the store.
func (l *List) follow(ctx context.Context, store Store, tried func()) {
	defer tried()
	shared := store == l.config.Shared
	var logged time.Time
	for retry := minRetry; ctx.Err() == nil; retry = min(2*retry, maxRetry) {
		var followed atomic.Bool // stores call merge on goroutines of theirs
		err := store.Follow(ctx, func(all []Revocation, complete bool) {
			l.merge(all)
			if shared {
				if complete {
					l.lost.Store(false)
				}
				l.reconcile(all, complete)
			} else if outdated := l.outdated(all, complete && l.config.Shared == nil); len(outdated) > 0 {
				_ = l.writeLocal(ctx, outdated) // an error is retried when the store is read next
			}
			if complete {
				followed.Store(true)
				tried()
			}
		})
		if ctx.Err() != nil {
			return
		}
		if followed.Load() {
			retry = minRetry
		}
		tried()
		if shared && !errors.Is(err, errNoStore) {
			l.lost.Store(true)
			if now := time.Now(); now.Sub(logged) > logPeriod {
				logged = now
				l.config.Logger().Warn("cannot read revocations of other nodes; known ones stay in effect", zap.String("store", store.String()), zap.Error(err))
			}
		}
		if !pause(ctx, retry) {
			return
		}
	}
}

// pause waits for 0.5 to 1 times d, at random, so that nodes do not retry all at
// once. It reports false if ctx is done.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d/2)) //nolint:gosec // no secret
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
