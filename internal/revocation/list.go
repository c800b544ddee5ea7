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

// precision is that of the times in stores. With a finer one, a node would
// supersede each entry of its own as it reads it back.
const precision = time.Microsecond

// Config says where revocations are kept.
type Config struct {
	// Users names the users table. Lists of the same users have the same name.
	Users string
	// Shared is the store that the nodes of a fleet share; nil for none.
	Shared Store
	// Local is used without Shared, and while Shared rejects writes.
	Local Store
	// Life is how long a revocation counts, at least as long as the longest session
	// lasts. Default: DefaultLife.
	Life time.Duration
	// Grown is called after revocations were added; nil for nobody. It must not wait.
	Grown func(*List)
	// Logger returns the logger to use.
	Logger func() *zap.Logger
}

// List holds the revocations of one users table, as far as its stores have been
// read. Requests query it without waiting. If a store is unavailable, what is
// known stays in effect. It is safe for concurrent use.
type List struct {
	config  Config
	start   sync.Once
	stop    context.CancelFunc
	running sync.WaitGroup
	ready   chan struct{} // closed once the stores were read, or firstRead is over
	isReady atomic.Bool
	lost    atomic.Bool   // the shared store cannot be read
	wake    chan struct{} // there are pending writes

	mu       sync.RWMutex
	entries  entries
	pending  map[string]state // by key: writes that the shared store has not accepted yet
	nonEmpty atomic.Bool      // there are entries
	blocks   atomic.Bool      // there are, or were, blocks among them
}

// Open returns a list. It reads its stores once Await is called, and follows them
// until Close.
func Open(config Config) *List {
	if config.Life == 0 {
		config.Life = DefaultLife
	}
	return &List{
		config: config, stop: func() {}, ready: make(chan struct{}), wake: make(chan struct{}, 1),
		entries: newEntries(config.Life), pending: make(map[string]state),
	}
}

// Adopt copies what another list of the same users knows, which this one
// replaces: its stores may be unavailable.
func (l *List) Adopt(other *List) { l.merge(other.all(true)) }

// Close stops following the stores.
func (l *List) Close() error {
	l.start.Do(func() { close(l.ready) }) // so that Await does not start it any more
	l.stop()
	l.running.Wait()
	return nil
}

// Users returns the name of the users table.
func (l *List) Users() string { return l.config.Users }

// Name adds a name of the users, for the local store.
func (l *List) Name(users string) {
	if local, ok := l.config.Local.(*Storage); ok {
		local.Name(users)
	}
}

// Shared returns the store that the nodes share; nil for none.
func (l *List) Shared() Store { return l.config.Shared }

// merge adds what a store holds, as far as it counts. Of each key, the latest state
// wins.
func (l *List) merge(all []Revocation) {
	if l.add(all) && l.config.Grown != nil {
		l.config.Grown(l)
	}
}

// add adds revocations as far as they count, and reports whether any is news.
func (l *List) add(all []Revocation) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, r := range all {
		if r.counts(now, l.config.Life) {
			added, _ := l.set(r)
			news = news || added
		}
	}
	return news
}

// set is entries.set. The caller holds l.mu.
func (l *List) set(r Revocation) (news, ok bool) {
	news, ok = l.entries.set(r)
	if ok {
		l.nonEmpty.Store(true)
		if r.Blocked {
			l.blocks.Store(true)
		}
	}
	return news, ok
}

func (l *List) all(restored bool) []Revocation {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.entries.list(restored)
}

// Find returns the time up to which sessions of a subject are revoked.
func (l *List) Find(subject []byte) (at time.Time, found bool) {
	if !l.nonEmpty.Load() {
		return at, false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	s, found := l.entries.subjects[string(canonical(subject))]
	return s.at, found && !s.restored
}

// Blocks reports whether all sessions of a subject are refused until that is
// restored.
func (l *List) Blocks(subject []byte) bool {
	if !l.blocks.Load() {
		return false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range l.entries.blocks[string(canonical(subject))] {
		if !s.restored {
			return true
		}
	}
	return false
}

// HasID reports whether the session or the token with an ID is revoked. Either
// may be empty.
func (l *List) HasID(session, token []byte) bool {
	if !l.nonEmpty.Load() {
		return false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, id := range [...]struct {
		kind byte
		id   []byte
	}{{kindSession, session}, {kindToken, token}} {
		if len(id.id) == 0 || len(id.id) > MaxID {
			continue
		}
		if s, found := l.entries.ids[string(id.kind)+string(id.id)]; found && !s.restored {
			return true
		}
	}
	return false
}

// AllOf returns the revocations in any of the lists, the latest first.
func AllOf(lists []*List) []Revocation {
	latest := make(map[string]Revocation)
	for _, l := range lists {
		for _, r := range l.all(false) {
			if r.Message != "" {
				continue
			}
			if known, found := latest[r.Key()]; !found || known.At.Before(r.At) {
				latest[r.Key()] = r
			}
		}
	}
	return latestFirst(slices.AppendSeq(make([]Revocation, 0, len(latest)), maps.Values(latest)))
}

// OutOfSync reports whether the shared store cannot be read, or has not accepted
// all writes yet.
func (l *List) OutOfSync() bool {
	if l.lost.Load() {
		return true
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.pending) > 0
}

// Revoke revokes sessions. An error that r is invalid, or ErrFull, means that nothing
// is revoked. After any other error they are revoked on this node, but the other nodes
// do not know yet, or a restart forgets it: a write that the shared store rejected is
// pending, and repeated until it succeeds.
func (l *List) Revoke(ctx context.Context, r Revocation) error {
	_, err := l.apply(ctx, "", []Revocation{r}, true)
	return err
}

// Apply revokes, blocks or restores sessions because of the message with an ID; empty
// for none. A message that was applied before changes nothing, and again is true. In any
// case all is stored once Apply returns no error. The errors are those of Revoke.
//
// Messages may arrive in any order: a block or its undo counts unless one of a later
// time is known.
func (l *List) Apply(ctx context.Context, message string, all []Revocation) (again bool, err error) {
	return l.apply(ctx, message, all, false)
}

// apply revokes all, unless a message with this ID was applied before. With
// supersede, revocations count although an undo is dated later.
func (l *List) apply(ctx context.Context, message string, all []Revocation, supersede bool) (again bool, err error) {
	for _, r := range all {
		if err := r.Validate(); err != nil {
			return false, err
		}
	}
	l.Await(ctx)
	l.mu.Lock()
	if message != "" {
		record := Revocation{Message: message, At: time.Now()}
		_, again = l.entries.get(record)
		all = append(slices.Clip(all), record) // the last: what was not applied may come again
	}
	news, full := false, false
	stored := make([]Revocation, 0, len(all))
	for _, r := range all {
		r.At, r.Subject = r.At.Truncate(precision), string(canonical([]byte(r.Subject)))
		known, found := l.entries.get(r)
		switch {
		case again && !found:
			continue
		case again || found && !supersede && known.after(r.state()):
			r.At, r.Restored = known.at, known.restored
		default:
			if supersede && r.Subject != "" && found && known.restored && !r.At.After(known.at) {
				r.At = known.at.Add(precision) // the clock of another node may be ahead
			}
			added, ok := l.set(r)
			news, full = news || added, !ok
		}
		if full {
			break
		}
		stored = append(stored, r)
	}
	l.mu.Unlock()
	if news && l.config.Grown != nil {
		l.config.Grown(l)
	}
	if full {
		return again, ErrFull
	}
	return again, l.write(ctx, stored)
}

// ErrFull is the error of List.Revoke if there are too many revocations.
var ErrFull = fmt.Errorf("there are %d revocations, and no more are kept: use a column such as `valid_after` instead", MaxEntries)

// ErrNone is the error of List.Restore if there is nothing to restore.
var ErrNone = errors.New("nothing to restore: no sessions of this user are revoked")

// Restore undoes the revocation and all blocks of a subject. It returns ErrNone if
// there is neither, and else the same errors as Revoke.
func (l *List) Restore(ctx context.Context, subject string, now time.Time) error {
	l.Await(ctx)
	id := string(canonical([]byte(subject)))
	var undone []Revocation
	l.mu.Lock()
	all := []Revocation{{Subject: id}}
	for by := range l.entries.blocks[id] {
		all = append(all, Revocation{Subject: id, Blocked: true, By: by})
	}
	for _, r := range all {
		r.At, r.Restored = now.Truncate(precision), true
		known, found := l.entries.get(r)
		if !found || known.restored {
			continue
		}
		if !r.At.After(known.at) {
			r.At = known.at.Add(precision)
		}
		l.set(r)
		undone = append(undone, r)
	}
	l.mu.Unlock()
	if len(undone) == 0 {
		return ErrNone
	}
	return l.write(ctx, undone)
}
