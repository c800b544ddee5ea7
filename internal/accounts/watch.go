package accounts

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
)

const (
	// unwatchedTTL is how long an account is used while changes are not noticed.
	unwatchedTTL = instant(5 * time.Second)
	// maxBehind is how long after a change an account in use may wait for its
	// re-check. Then its request looks it up.
	maxBehind = instant(10 * time.Second)
	// How long the watch waits before it connects again.
	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second
	// watchMargin is how much later than the poll interval and a query the watch may be
	// before it counts as lost.
	watchMargin = time.Second
)

// watch notices changes, on a connection that the directory opens for it.
//
// It polls the gate. While that stays the same, all accounts that were looked up
// since hold. When it changes, the accounts in use are looked up again here, and
// the others at their next request. A directory without a gate only reports
// changes; what it does not report holds.
type watch struct {
	e       *Engine
	watcher directories.Watcher // nil if there is none, or the poll is off
	recent  recent

	// For requests:
	polled atomic.Int64           // when the watch was known to work last, 0 without one
	quiet  atomic.Int64           // since when the gate has its value
	behind atomic.Int64           // when the change came whose re-check is under way, 0 for none
	server atomic.Pointer[string] // that is watched

	// For the watch alone:
	last    *directories.Reading // nil on a new connection
	failure string               // that the gate has shown last
	read    time.Time            // when reading it began
	epoch   string
	moved   bool    // the accounts in use are to be listed
	movedAt instant // since when
	todo    subjectList
	duty
	streams streamed

	rechecked, epochs, notifications atomic.Uint64
	resetAt                          atomic.Int64 // when the epoch has changed last
}

// StartWatch begins to watch for changes. The first lookup does so too.
func (e *Engine) StartWatch() {
	e.watching.Do(func() {
		if e.watch.watcher != nil {
			e.background(e.watch.run)
		}
	})
}

// Watches reports whether the directory can be watched for changes, and is to
// be.
func (e *Engine) Watches() bool { return e.watch.watcher != nil }

// connected reports whether changes are noticed.
func (w *watch) connected(now instant) bool {
	polled := instant(w.polled.Load())
	return polled != 0 && now-polled < instant(w.e.config.Poll+deadline.Query+watchMargin)
}

// holds reports whether an account is known to be unchanged.
func (w *watch) holds(a *Account) bool { return a.watched && w.unchanged(a) }

// unchanged reports whether nothing has changed on the watched server since an
// account was looked up, and nothing was reported.
func (w *watch) unchanged(a *Account) bool {
	return int64(a.asked) >= max(w.quiet.Load(), w.e.since.Load())
}

// follows reports whether a server is the one that is watched.
func (w *watch) follows(server string) bool {
	watched := w.server.Load()
	return watched != nil && *watched == server
}

// run watches until the engine is closed.
func (w *watch) run() {
	for retry := minRetry; ; retry = min(2*retry, maxRetry) {
		began := time.Now()
		err := w.follow()
		w.polled.Store(0)
		w.server.Store(nil)
		if w.e.running.Err() != nil {
			return
		}
		w.e.journal.unwatched(err)
		if time.Since(began) > maxRetry {
			retry = minRetry
		}
		if !w.e.pause(retry/2 + rand.N(retry/2)) { //nolint:gosec // no secret
			return
		}
	}
}

// errEnded is a watch that ended without an error.
var errEnded = errors.New("the watch ended without an error")

// follow connects, and watches until the connection fails.
func (w *watch) follow() error {
	opened, err := w.watcher.Watch(w.e.running, w.e.changed)
	if err != nil {
		return err
	}
	defer func() {
		_ = opened.Close() // it is given up either way
		// A new connection may lead to another server, and knows nothing of earlier
		// changes.
		w.last, w.todo, w.streams.todo = nil, subjectList{}, subjectList{}
	}()
	gate, gated := opened.(directories.Gate)
	if !gated {
		w.e.outdate()
		w.alive(directories.Reading{})
	}
	for next := time.Now(); ; next = next.Add(w.e.config.Poll) {
		if err := w.wait(opened, next); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(next) > w.e.config.Poll { // it was late: no two polls at once
			next = now
		}
		if !gated {
			w.alive(directories.Reading{})
			continue
		}
		if err := w.poll(gate); err != nil {
			return err
		}
		if err := w.recheck(gate); err != nil {
			return err
		}
		if err := w.recheckStreams(gate, next.Add(w.e.config.Poll)); err != nil {
			return err
		}
	}
}

// wait waits until a time. Changes are reported meanwhile.
func (w *watch) wait(opened directories.Watch, until time.Time) error {
	ctx, cancel := context.WithDeadline(w.e.running, until)
	defer cancel()
	if err := opened.Wait(ctx); err != nil {
		return err
	}
	if ctx.Err() == nil {
		return errEnded
	}
	return w.e.running.Err()
}

// bounded runs a query of the watch.
func (w *watch) bounded(query func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(w.e.running, deadline.Query)
	defer cancel()
	return query(ctx)
}

// poll reads the gate.
func (w *watch) poll(gate directories.Gate) error {
	var reading directories.Reading
	began := w.e.now()
	err := w.bounded(func(ctx context.Context) (err error) {
		reading, err = gate.Read(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if w.last == nil || reading.Value != w.last.Value {
		// Lookups from now on are not older than the gate. The accounts in use are
		// behind before any request can see that they do not hold.
		now := w.e.instant(w.e.now())
		w.move(now)
		w.quiet.Store(int64(now))
		w.e.store.periods.begin(now)
	} else {
		w.e.store.periods.extend(w.e.instant(began))
	}
	if !reading.Clock.IsZero() {
		w.e.clocks.Database(reading.Clock, began, w.e.now())
	}
	w.last = &reading
	w.begin(reading.Epoch)
	w.read = began
	w.report(reading.Failure)
	w.alive(reading)
	return nil
}

// report records that the gate shows why lookups fail, when it begins to.
func (w *watch) report(err error) {
	if err == nil {
		w.failure = ""
		return
	}
	if text := classified(err).Error(); text != w.failure {
		w.failure = text
		w.e.failed("", err)
	}
}

// alive records that changes are noticed.
func (w *watch) alive(reading directories.Reading) {
	w.server.Store(&reading.Server)
	w.polled.Store(int64(w.e.instant(w.e.now())))
	w.e.journal.watched()
}

// begin begins an epoch, if it is a new one.
func (w *watch) begin(epoch string) {
	if epoch == "" || epoch == w.epoch {
		return
	}
	if w.epoch != "" {
		w.epochs.Add(1)
		now := time.Now()
		w.resetAt.Store(now.UnixNano())
		w.e.clocks.Reset(w.read, now)
		w.e.brake.release()
		w.e.config.Logger().Info("users table was recreated, emptied or restored; re-checking active users")
		w.e.happened(Reset, nil)
		w.e.tell(nil)
	}
	w.epoch = epoch
}

// move has the accounts in use re-checked, and those with streams.
func (w *watch) move(now instant) {
	w.streams.moved = true
	if !w.moved {
		w.moved, w.movedAt = true, now
	}
	w.behind.CompareAndSwap(0, int64(w.movedAt))
}
