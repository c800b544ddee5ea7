package revocation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
)

const (
	// writeTimeout bounds a write to a store.
	writeTimeout = 5 * time.Second
	// flushBatch is how many pending revocations are written at a time: they
	// share a writeTimeout.
	flushBatch = 1000
)

// write writes revocations to the shared store, or to the local one if there is no
// shared one. It goes on if ctx is canceled, as when the client disconnects.
func (l *List) write(ctx context.Context, all []Revocation) error {
	ctx = context.WithoutCancel(ctx)
	if l.config.Shared != nil {
		err := l.writeShared(ctx, all)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errNoStore) {
			// The pending write is lost if this process ends: the local store
			// keeps the revocation, too.
			return errors.Join(fmt.Errorf("in effect on this node, but not yet on the others: %w", err), l.writeLocal(ctx, all))
		}
	}
	return l.writeLocal(ctx, all)
}

func (l *List) writeLocal(ctx context.Context, all []Revocation) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := l.config.Local.Put(ctx, all); err != nil {
		return fmt.Errorf("in effect only until Caddy restarts, because it cannot be stored: %w", err)
	}
	return nil
}

// writeShared writes revocations to the shared store. If it rejects them, they
// are pending.
func (l *List) writeShared(ctx context.Context, all []Revocation) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := l.config.Shared.Put(ctx, all)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range all {
		queued, found := l.pending[r.Key()]
		switch {
		case err != nil && !errors.Is(err, errNoStore):
			l.enqueue(r)
		case found && !queued.after(r.state()):
			delete(l.pending, r.Key())
		}
	}
	l.wakeFlush()
	return err
}

// reconcile enqueues what the shared store lacks or has in an older state: it may
// have lost its data, and of two nodes that restore it the one with the older
// state may be the last. It does not write, because it runs on the connection
// that follows the store.
func (l *List) reconcile(all []Revocation, complete bool) {
	outdated := l.outdated(all, complete)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range outdated {
		l.enqueue(r)
	}
	l.wakeFlush()
}

// outdated returns what is known and a store has in an older state, and, if all
// is complete, what it does not have.
func (l *List) outdated(all []Revocation, complete bool) []Revocation {
	var outdated []Revocation
	l.mu.RLock()
	for _, r := range all {
		if known, found := l.entries.get(r); found && known.after(r.state()) {
			r.At, r.Restored = known.at, known.restored
			outdated = append(outdated, r)
		}
	}
	l.mu.RUnlock()
	if !complete {
		return outdated
	}
	stored := make(map[string]struct{}, len(all))
	for _, r := range all {
		stored[r.Key()] = struct{}{}
	}
	now := time.Now()
	for _, r := range l.all(true) {
		if _, found := stored[r.Key()]; !found && r.counts(now, l.config.Life) { // stores keep nothing older
			outdated = append(outdated, r)
		}
	}
	return outdated
}

// enqueue adds a pending write. The caller holds l.mu.
func (l *List) enqueue(r Revocation) {
	if queued, found := l.pending[r.Key()]; !found || r.state().after(queued) {
		l.pending[r.Key()] = r.state()
	}
}

// wakeFlush wakes flushPending if there are pending writes. The caller holds l.mu.
func (l *List) wakeFlush() {
	if len(l.pending) > 0 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// flushPending writes pending revocations to the shared store until it accepts
// them. It does not wait for the store to be followed again: one that rejects
// writes, such as a Redis out of memory, can be read all the time.
func (l *List) flushPending(ctx context.Context) {
	var logged time.Time
	for retry := minRetry; ; {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		if !pause(ctx, retry) {
			return
		}
		pending := l.pendingWrites()
		if len(pending) == 0 {
			retry = minRetry
			continue
		}
		var err error
		for batch := range slices.Chunk(pending, flushBatch) {
			if err = l.writeShared(ctx, batch); err != nil {
				break
			}
		}
		if err == nil || errors.Is(err, errNoStore) || ctx.Err() != nil {
			retry = minRetry
			continue
		}
		retry = min(2*retry, maxRetry)
		if now := time.Now(); now.Sub(logged) > logPeriod {
			logged = now
			l.config.Logger().Warn("cannot share revocations with other nodes yet; retrying", zap.String("store", l.config.Shared.String()), zap.Int("pending", len(pending)), zap.Error(err))
		}
	}
}

func (l *List) pendingWrites() []Revocation {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := make([]Revocation, 0, len(l.pending))
	for key, s := range l.pending {
		if r, ok := Parse(key, s.at, s.restored); ok {
			all = append(all, r)
		}
	}
	return all
}
