package revocation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"
)

// put keeps a revocation in the shared store, where there is one, else in the
// local one. That who has asked for it hangs up does not end it.
func (l *List) put(ctx context.Context, r Revocation) error {
	ctx = context.WithoutCancel(ctx)
	all := []Revocation{r}
	if l.config.Shared != nil {
		err := l.tell(ctx, all)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errNowhere) {
			// Until the store is back, and as long as this node lives: the local
			// store has it meanwhile.
			return errors.Join(fmt.Errorf("it holds on this node; others do not know of it yet: %w", err), l.keep(ctx, all))
		}
	}
	return l.keep(ctx, all)
}

func (l *List) keep(ctx context.Context, all []Revocation) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	if err := l.config.Local.Put(ctx, all); err != nil {
		return fmt.Errorf("it holds until Caddy is restarted, because it cannot be stored: %w", err)
	}
	return nil
}

// restock has put back what the shared store has lost, as far as all is the
// whole of it, and what it has an older word of: another node that put that back
// may have been faster, or slower, than the latest word. It does not wait for
// that: the store may have no time for it, and has more to tell.
func (l *List) restock(all []Revocation, whole bool) {
	missing := l.missing(all, whole)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range missing {
		l.owe(r)
	}
	l.remind()
}

// missing returns what a store that holds all has an older word of: it may have
// been taken back in the other one. And with whole, what it does not hold.
func (l *List) missing(all []Revocation, whole bool) []Revocation {
	var missing []Revocation
	held := make(map[string]struct{}, len(all))
	for _, r := range all {
		held[r.key()] = struct{}{}
		if known, found := l.known(r); found && known.after(state{r.At, r.Restored}) {
			r.At, r.Restored = known.at, known.restored
			missing = append(missing, r)
		}
	}
	if !whole {
		return missing
	}
	since := time.Now().Add(-l.config.Life)
	for _, r := range l.all(true) {
		if _, has := held[r.key()]; !has && r.At.After(since) { // no store keeps what is older
			missing = append(missing, r)
		}
	}
	return missing
}

// owe notes what the shared store is to be told. The caller holds l.mu.
func (l *List) owe(r Revocation) {
	key, now := r.key(), state{r.At, r.Restored}
	if known, was := l.untold[key]; !was || now.after(known) {
		l.untold[key] = now
	}
}

// remind has retell tell what there is to be told. The caller holds l.mu.
func (l *List) remind() {
	if len(l.untold) > 0 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// tell puts revocations into the shared store. What it could not be told is
// told by retell.
func (l *List) tell(ctx context.Context, all []Revocation) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	err := l.config.Shared.Put(ctx, all)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range all {
		known, was := l.untold[r.key()]
		switch {
		case err != nil && !errors.Is(err, errNowhere):
			l.owe(r)
		case was && !known.after(state{r.At, r.Restored}):
			delete(l.untold, r.key())
		}
	}
	l.remind()
	return err
}

// retell tells the shared store what it could not be told, until it takes it. A
// store that can be read and takes no writes, such as a Redis that is out of
// memory, is never lost: nothing else would tell it.
func (l *List) retell(ctx context.Context) {
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
		left := l.left()
		if len(left) == 0 {
			retry = minRetry
			continue
		}
		var err error
		for some := range slices.Chunk(left, tellAtOnce) {
			if err = l.tell(ctx, some); err != nil {
				break
			}
		}
		if err == nil || errors.Is(err, errNowhere) || ctx.Err() != nil {
			retry = minRetry
			continue
		}
		retry = min(2*retry, maxRetry)
		if now := time.Now(); now.Sub(logged) > logEvery {
			logged = now
			l.config.Logger().Warn("other nodes do not know of all revocations yet", zap.String("store", l.config.Shared.String()), zap.Int("revocations", len(left)), zap.Error(err))
		}
	}
}

// left returns what the shared store could not be told.
func (l *List) left() []Revocation {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := make([]Revocation, 0, len(l.untold))
	for key, s := range l.untold {
		if r, ok := ofKey(key, s.at, s.restored); ok {
			all = append(all, r)
		}
	}
	return all
}

// pause waits about so long. It returns false when the list was closed
// meanwhile.
func pause(ctx context.Context, about time.Duration) bool {
	timer := time.NewTimer(about/2 + rand.N(about/2)) //nolint:gosec // no secret
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
