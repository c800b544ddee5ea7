package accounts

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// shelf is a directory of a third party: users in a map.
type shelf struct {
	mu      sync.Mutex
	users   map[string]directories.Account
	late    map[string]bool // users whom only a confirmation finds
	failure error
	short   bool          // it answers too few queries
	asked   int           // lookups
	last    time.Time     // when it was asked last
	gap     time.Duration // the shortest time between two lookups, 0 before there are two
	hold    chan struct{} // that lookups wait for, after they have looked
	hangs   bool          // confirmations are not answered
	panics  bool
	changed func(...string)
}

func (s *shelf) String() string { return "a shelf" }

func (s *shelf) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	s.mu.Lock()
	now := time.Now()
	if gap := now.Sub(s.last); s.asked > 0 && (s.gap == 0 || gap < s.gap) {
		s.gap = gap
	}
	s.asked++
	s.last = now
	found := make([]directories.Account, len(queries))
	for i, q := range queries {
		if !s.late[string(q.Subject)] || !q.Since.IsZero() {
			found[i] = s.users[string(q.Subject)]
		}
	}
	failure, short, hold, panics := s.failure, s.short, s.hold, s.panics
	hangs := s.hangs && slices.ContainsFunc(queries, func(q directories.Query) bool { return !q.Since.IsZero() })
	s.mu.Unlock()
	if panics {
		panic("a secret")
	}
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if short {
		found = found[1:]
	}
	return found, failure
}

func (s *shelf) Watch(_ context.Context, changed func(...string)) (directories.Watch, error) {
	s.set(func() { s.changed = changed })
	return shelfWatch{}, nil
}

// shelfWatch is no gate: the shelf reports each change.
type shelfWatch struct{}

func (shelfWatch) Wait(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (shelfWatch) Close() error { return nil }

// lookups returns how often it was asked.
func (s *shelf) lookups() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *shelf) set(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// openShelf opens the engine of a shelf, and waits until it watches.
func openShelf(t *testing.T, s directories.Directory, config Config) *Engine {
	t.Helper()
	e := Open(s, config)
	t.Cleanup(func() { closed(t, e) })
	time.Sleep(time.Millisecond) // the time 0 of an engine stands for none
	e.StartWatch()
	synctest.Wait()
	if !e.Stats().Watching {
		t.Fatal("it does not watch")
	}
	return e
}

// said is what an engine says of a subject.
func said(e *Engine, subject string) string {
	account, source, err := ask(e, subject, time.Time{})
	return inAWord(account, source, err)
}

func inAWord(a *Account, source Source, err error) string {
	switch {
	case err != nil:
		return "unknown"
	case !a.Exists:
		return "gone"
	case source == FromFallback:
		return "last known"
	}
	return "there"
}
