package revocation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Store is where revocations are kept, and shared with other nodes.
type Store interface {
	// Put keeps revocations. It is errNowhere when there is no such place.
	Put(ctx context.Context, all []Revocation) error
	// Follow calls merge with all that the store holds, whole being true, and
	// then with what is added by anybody, until ctx is done or the store is
	// lost. It is errNowhere when there is no such place.
	Follow(ctx context.Context, merge func(all []Revocation, whole bool)) error
	// String names the store, without a password.
	String() string
}

// errNowhere is the answer of a store that is not there.
var errNowhere = errors.New("there is no such store")

const (
	// putTimeout bounds the writing of a revocation.
	putTimeout = 5 * time.Second
	// How long it takes until a store that was lost is tried again.
	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second
	// firstWithin is how long requests wait for the stores to be read for the
	// first time.
	firstWithin = time.Second
	// precision is that of the times that stores keep. With a finer one of its
	// own a node would take each word that it reads for an older one.
	precision = time.Microsecond
	// tellAtOnce is how many revocations a store is told at a time that it was
	// not told before: it has putTimeout for them.
	tellAtOnce = 1000
	// logEvery is how often the same trouble is logged.
	logEvery = 30 * time.Second
)

// Config says where revocations are kept.
type Config struct {
	// Of names the users, in the same way for all lists of the same ones.
	Of string
	// Shared is the store that the nodes of a fleet have in common; nil for
	// none.
	Shared Store
	// Local keeps what cannot be kept there.
	Local Store
	// Life is how long a revocation is kept: as long as the longest session
	// lasts. Default: DefaultLife.
	Life time.Duration
	// Logger returns the logger to use.
	Logger func() *zap.Logger
}

// List is the revocations of one users table: what its stores hold, as far as
// is known, which a request asks without waiting. A store that is away changes
// nothing. It is safe for use by several goroutines.
type List struct {
	config Config
	stop   context.CancelFunc
	ended  sync.WaitGroup
	starts sync.Once
	ready  chan struct{} // closed when the stores were read for the first time
	read   atomic.Bool   // ready is closed
	lost   atomic.Bool   // the shared store cannot be read
	wake   chan struct{} // there is something untold

	mu       sync.RWMutex
	subjects map[string]state
	others   map[string]state // by key
	untold   map[string]state // by key: what the shared store could not be told
	some     atomic.Bool      // there are any
}

// Open returns a list that reads its stores once somebody asks for a
// revocation, and follows them until it is closed.
func Open(config Config) *List {
	if config.Life == 0 {
		config.Life = DefaultLife
	}
	return &List{
		config: config, stop: func() {}, ready: make(chan struct{}), wake: make(chan struct{}, 1),
		subjects: make(map[string]state), others: make(map[string]state), untold: make(map[string]state),
	}
}

// Adopt takes what another list knows, of the same users, whose place this one
// takes: its stores may be away.
func (l *List) Adopt(other *List) { l.merge(other.all(true)) }

// Close ends the following.
func (l *List) Close() error {
	l.starts.Do(func() { close(l.ready) }) // it is not begun any more
	l.stop()
	l.ended.Wait()
	return nil
}

// Await begins to read the stores, and waits until they were read for the
// first time, or ctx is done: then what they hold is not known yet.
func (l *List) Await(ctx context.Context) {
	if l.read.Load() {
		return
	}
	l.starts.Do(l.start)
	select {
	case <-l.ready:
	case <-ctx.Done():
	}
}

func (l *List) start() {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	var first sync.WaitGroup
	for _, store := range []Store{l.config.Shared, l.config.Local} {
		if store != nil {
			first.Add(1)
			l.ended.Go(func() { l.follow(ctx, store, sync.OnceFunc(first.Done)) })
		}
	}
	if l.config.Shared != nil {
		l.ended.Go(func() { l.retell(ctx) })
	}
	all := make(chan struct{})
	l.ended.Go(func() { first.Wait(); close(all) })
	l.ended.Go(func() {
		timer := time.NewTimer(firstWithin)
		defer timer.Stop()
		select {
		case <-all:
		case <-timer.C:
		}
		l.read.Store(true)
		close(l.ready)
	})
}

// follow follows a store until the list is closed. First is called when it was
// read for the first time, or cannot be.
func (l *List) follow(ctx context.Context, store Store, first func()) {
	defer first()
	var logged time.Time
	for retry := minRetry; ctx.Err() == nil; retry = min(2*retry, maxRetry) {
		var followed atomic.Bool // on a goroutine of the store's
		err := store.Follow(ctx, func(all []Revocation, whole bool) {
			l.merge(all)
			if l.shared(store) {
				if whole {
					l.lost.Store(false)
				}
				l.restock(all, whole)
			} else if missing := l.missing(all, whole && l.config.Shared == nil); len(missing) > 0 {
				_ = l.keep(ctx, missing) // else when it is read again
			}
			if whole {
				followed.Store(true)
				first()
			}
		})
		if ctx.Err() != nil {
			return
		}
		if followed.Load() {
			retry = minRetry
		}
		first()
		if l.shared(store) && !errors.Is(err, errNowhere) {
			l.lost.Store(true)
			if now := time.Now(); now.Sub(logged) > logEvery {
				logged = now
				l.config.Logger().Warn("revocations of other nodes are not heard of; those that are known hold", zap.String("store", store.String()), zap.Error(err))
			}
		}
		if !pause(ctx, retry) {
			return
		}
	}
}

func (l *List) shared(store Store) bool { return store == l.config.Shared }

// merge takes what a store holds. Of each key the latest counts.
func (l *List) merge(all []Revocation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range all {
		l.set(r)
	}
}

// known returns what is known of the key of a revocation.
func (l *List) known(r Revocation) (state, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if r.Subject != "" {
		s, found := l.subjects[r.Subject]
		return s, found
	}
	s, found := l.others[r.key()]
	return s, found
}

// set sets a state, unless a later one is known. The caller holds l.mu.
func (l *List) set(r Revocation) bool {
	entries, key := l.subjects, r.Subject
	if r.Subject == "" {
		entries, key = l.others, r.key()
	}
	now := state{r.At.Truncate(precision), r.Restored}
	known, was := entries[key]
	if was && !now.after(known) {
		return true
	}
	if !was && len(l.subjects)+len(l.others) >= maxEntries {
		l.sweep()
		if len(l.subjects)+len(l.others) >= maxEntries {
			return false
		}
	}
	entries[key] = now
	l.some.Store(true)
	return true
}

// sweep forgets what is older than any session. The caller holds l.mu.
func (l *List) sweep() {
	since := time.Now().Add(-l.config.Life)
	for _, entries := range []map[string]state{l.subjects, l.others} {
		for key, s := range entries {
			if s.at.Before(since) {
				delete(entries, key)
			}
		}
	}
}

// Find returns until when sessions of a subject were revoked.
func (l *List) Find(subject []byte) (at time.Time, found bool) {
	if !l.some.Load() {
		return at, false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	s, found := l.subjects[string(subject)]
	return s.at, found && !s.restored
}

// Ended tells whether the session or the token with an id was revoked. Either
// may be empty.
func (l *List) Ended(session, token []byte) bool {
	if !l.some.Load() {
		return false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, id := range [...]struct {
		kind byte
		id   []byte
	}{{ofSession, session}, {ofToken, token}} {
		if len(id.id) == 0 || len(id.id) > MaxID {
			continue
		}
		if s, found := l.others[string(id.kind)+string(id.id)]; found && !s.restored {
			return true
		}
	}
	return false
}

// AllOf returns the revocations that hold in any of some lists, the latest
// first.
func AllOf(lists []*List) []Revocation {
	latest := make(map[string]Revocation)
	for _, l := range lists {
		for _, r := range l.all(false) {
			if known, twice := latest[r.key()]; !twice || known.At.Before(r.At) {
				latest[r.key()] = r
			}
		}
	}
	return sorted(slices.AppendSeq(make([]Revocation, 0, len(latest)), maps.Values(latest)))
}

func (l *List) all(restored bool) []Revocation {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := make([]Revocation, 0, len(l.subjects)+len(l.others))
	for subject, s := range l.subjects {
		if restored || !s.restored {
			all = append(all, Revocation{Subject: subject, At: s.at, Restored: s.restored})
		}
	}
	for key, s := range l.others {
		if r, ok := ofKey(key, s.at, s.restored); ok && (restored || !s.restored) {
			all = append(all, r)
		}
	}
	return all
}

// Of names the users.
func (l *List) Of() string { return l.config.Of }

// Shared returns the store that the nodes have in common; nil for none.
func (l *List) Shared() Store { return l.config.Shared }

// Lost tells that the store which the nodes share cannot be read, or could not
// be told of all that this node knows.
func (l *List) Lost() bool {
	if l.lost.Load() {
		return true
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.untold) > 0
}

// Revoke ends sessions. An error tells that it holds on this node, but that
// others do not know of it yet, or that it does not outlive Caddy; what the
// shared store could not be told it is told when it is back.
func (l *List) Revoke(ctx context.Context, r Revocation) error {
	if err := r.Check(); err != nil {
		return err
	}
	r.At = r.At.Truncate(precision)
	l.Await(ctx)
	l.mu.Lock()
	if r.Subject != "" {
		// Clocks differ: it comes after what it takes back.
		if known, was := l.subjects[r.Subject]; was && known.restored && !r.At.After(known.at) {
			r.At = known.at.Add(precision)
		}
	}
	kept := l.set(r)
	l.mu.Unlock()
	if !kept {
		return fmt.Errorf("%d sessions are revoked already: use a column such as `valid_after` for so many", maxEntries)
	}
	return l.put(ctx, r)
}

// ErrNone is the answer of List.Restore when there is nothing to restore.
var ErrNone = errors.New("none of its sessions are revoked")

// Restore takes the revocation of a subject back.
func (l *List) Restore(ctx context.Context, subject string, now time.Time) error {
	l.Await(ctx)
	l.mu.Lock()
	known, was := l.subjects[subject]
	if !was || known.restored {
		l.mu.Unlock()
		return ErrNone
	}
	if now = now.Truncate(precision); !now.After(known.at) {
		now = known.at.Add(precision)
	}
	r := Revocation{Subject: subject, At: now, Restored: true}
	l.set(r)
	l.mu.Unlock()
	return l.put(ctx, r)
}
