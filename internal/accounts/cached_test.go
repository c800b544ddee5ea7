package accounts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

// shelf is a directory of somebody else's: users in a map.
type shelf struct {
	mu      sync.Mutex
	users   map[string]Found
	failure error
	short   bool          // it answers for too few
	asked   int           // lookups
	last    time.Time     // when it was asked last
	gap     time.Duration // the shortest time between two lookups, 0 before there are two
	hold    chan struct{} // that lookups wait for, after they have looked
	changed func(...string)
}

func (s *shelf) String() string { return "a shelf" }

func (s *shelf) Lookup(ctx context.Context, subjects []string) ([]Found, error) {
	s.mu.Lock()
	now := time.Now()
	if gap := now.Sub(s.last); s.asked > 0 && (s.gap == 0 || gap < s.gap) {
		s.gap = gap
	}
	s.asked++
	s.last = now
	found := make([]Found, len(subjects))
	for i, subject := range subjects {
		found[i] = s.users[subject]
	}
	failure, short, hold := s.failure, s.short, s.hold
	s.mu.Unlock()
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

func (s *shelf) Watch(ctx context.Context, changed func(...string)) error {
	s.mu.Lock()
	s.changed = changed
	s.mu.Unlock()
	changed()
	<-ctx.Done()
	return ctx.Err()
}

func (s *shelf) set(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func openShelf(t *testing.T, s *shelf) *Cached {
	t.Helper()
	c := OpenCached(s, Config{Logger: zap.NewNop, Timeout: 5 * time.Second}) // tests run on slow machines
	t.Cleanup(func() { _ = c.Close() })
	said(c, "somebody")
	eventually.Holds(t, "it watches", func() bool { return c.Stats().Watching })
	s.set(func() { s.asked = 0 })
	return c
}

// said is what a directory says of a subject.
func said(d Directory, subject string) string {
	var a Account
	source, err := d.Lookup(context.Background(), Query{Subject: []byte(subject), Now: time.Now()}, &a)
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

func awaitSaid(t *testing.T, d Directory, subject, want string) {
	t.Helper()
	eventually.Holds(t, subject+" is "+want, func() bool { return said(d, subject) == want })
}

func TestADirectoryOfSomebodyElses(t *testing.T) {
	s := &shelf{users: map[string]Found{"ada": {Exists: true}, "odd": {Failure: errors.New("cannot be read")}}}
	c := openShelf(t, s)
	for subject, want := range map[string]string{"ada": "there", "bob": "gone", "odd": "unknown", "": "gone"} {
		if got := said(c, subject); got != want {
			t.Errorf("%q is %s, want %s", subject, got, want)
		}
	}
	asked := func() (n int) { s.set(func() { n = s.asked }); return n }
	before := asked()
	for range 100 {
		said(c, "ada")
	}
	if n := asked() - before; n != 0 {
		t.Errorf("%d lookups of a user who is known", n)
	}
	s.set(func() { delete(s.users, "ada") })
	s.changed("ada")
	if got := said(c, "ada"); got != "gone" {
		t.Errorf("after a change it is %s", got)
	}
	s.set(func() { s.users["bob"] = Found{Exists: true} })
	s.changed() // any may be another
	if got := said(c, "bob"); got != "there" {
		t.Errorf("after any change it is %s", got)
	}
}

// TestSomebodyWhoIsNotThereKeepsNobodyElseFromBeingFound on a server whose word
// is not good enough for that, such as a replica.
func TestSomebodyWhoIsNotThereKeepsNobodyElseFromBeingFound(t *testing.T) {
	s := &shelf{users: map[string]Found{"ada": {Exists: true}}}
	c := openShelf(t, s)
	s.set(func() { s.failure = NewError(Standby, "it is a replica") })
	for i := range 2 * breakAfter {
		if got := said(c, fmt.Sprint("nobody", i)); got != "unknown" {
			t.Errorf("somebody is %s", got)
		}
	}
	s.set(func() { s.failure = nil })
	if got := said(c, "ada"); got != "there" {
		t.Errorf("ada is %s", got)
	}
}

func TestAnAnswerFromBeforeAChangeIsNotKept(t *testing.T) {
	s := &shelf{users: map[string]Found{"ada": {Exists: true}}}
	c := openShelf(t, s)
	hold := make(chan struct{})
	s.set(func() { s.hold = hold })
	answer := make(chan string)
	go func() { answer <- said(c, "ada") }()
	eventually.Holds(t, "it is asked", func() (asked bool) {
		s.set(func() { asked = s.asked > 0 })
		return asked
	})
	s.set(func() { delete(s.users, "ada"); s.hold = nil })
	s.changed("ada")
	close(hold)
	if got := <-answer; got != "gone" {
		t.Errorf("who waited was told %s", got)
	}
	if got := said(c, "ada"); got != "gone" {
		t.Errorf("it is %s", got)
	}
}

func TestADirectoryThatIsAwayEndsNoSession(t *testing.T) {
	for name, fail := range map[string]func(*shelf){
		"an error":        func(s *shelf) { s.failure = errors.New("it is away") },
		"too few answers": func(s *shelf) { s.short = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{users: map[string]Found{"ada": {Exists: true}}}
			c := openShelf(t, s)
			awaitSaid(t, c, "ada", "there")
			s.set(func() { fail(s) })
			s.changed() // as when a connection breaks
			for n := range 10 {
				if got := said(c, fmt.Sprintf("new%d", n)); got != "unknown" {
					t.Errorf("a new one is %s", got)
				}
				if got := said(c, "ada"); got != "last known" {
					t.Errorf("one that was known is %s", got)
				}
			}
			if !c.Stats().Broken || c.Stats().Failure == "" {
				t.Errorf("the state: %+v", c.Stats())
			}
			s.set(func() { s.failure, s.short = nil, false })
			awaitSaid(t, c, "new0", "gone")
			awaitSaid(t, c, "ada", "there")
		})
	}
}

func TestAfterOneFailureItIsKnownToBeBackWithoutARequest(t *testing.T) {
	s := &shelf{users: map[string]Found{"ada": {Exists: true}}}
	c := openShelf(t, s)
	s.set(func() { s.asked, s.gap, s.failure = 0, 0, errors.New("it is away") })
	if got := said(c, "ada"); got != "unknown" {
		t.Errorf("it is %s", got)
	}
	eventually.Holds(t, "it is tried again and again", func() (tried bool) {
		s.set(func() { tried = s.asked > breakAfter })
		return tried
	})
	if stats := c.Stats(); stats.Failure != "it is away" || stats.Broken {
		t.Errorf("one request has failed, and the state is %+v", stats)
	}
	s.set(func() {
		if s.gap < breakFor {
			t.Errorf("it was tried again after %s", s.gap)
		}
		s.failure = nil
	})
	eventually.Holds(t, "it is known to be back", func() bool { return c.Stats().Failure == "" })
}

func TestCloseEndsTheProbe(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s := &shelf{failure: errors.New("it is away")}
	c := OpenCached(s, Config{Logger: zap.NewNop, Timeout: 5 * time.Second})
	said(c, "ada")
	eventually.Holds(t, "it is being tried", func() bool { return c.probing.Load() })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	said(c, "ada")
	goleak.VerifyNone(t, before)
}

func TestAChain(t *testing.T) {
	first := &shelf{users: map[string]Found{"both": {Exists: true}, "first": {Exists: true}}}
	last := &shelf{users: map[string]Found{"both": {Exists: true}, "last": {Exists: true}}}
	chain := NewChain(openShelf(t, first), openShelf(t, last))
	must := func(what string, wants map[string]string) {
		t.Helper()
		chain.Flush()
		for subject, want := range wants {
			if got := said(chain, subject); got != want {
				t.Errorf("%s: %s is %s, want %s", what, subject, got, want)
			}
		}
	}
	must("both answer", map[string]string{"both": "there", "first": "there", "last": "there", "neither": "gone"})
	first.set(func() { first.failure = errors.New("it is away") })
	must("the first is away", map[string]string{"both": "there", "last": "there", "neither": "gone", "first": "gone"})
	first.set(func() { first.failure = nil })
	awaitSaid(t, chain, "first", "there")
	last.set(func() { last.failure = errors.New("it is away") })
	must("the last is away", map[string]string{"both": "there", "first": "there", "last": "unknown", "neither": "unknown"})
	if chain.String() != "a shelf, then a shelf" {
		t.Error(chain.String())
	}
}
