package accounts

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// A primary that hangs must not keep the circuit open either.
func TestConfirmationsThatHangDoNotStopLookups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{users: map[string]directories.Account{"ada": {Exists: true}, "bob": {Exists: true}}}
		e := openShelf(t, s, Config{})
		s.set(func() { s.hangs = true })
		for i := range breakAfter {
			if got := inAWord(ask(e, "ada", time.Now())); got != "unknown" {
				t.Errorf("%d: ada, as she is now, is %s", i, got)
			}
			time.Sleep(deadline.Query) // so that the next one is a lookup of its own
		}
		time.Sleep(2 * breakFor) // by then the directory is probed
		synctest.Wait()
		if got := said(e, "bob"); got != "there" {
			t.Errorf("bob is %s", got)
		}
	})
}

// A directory that answers, but not about somebody, or not before a migration is
// over, costs nobody time: it is asked for the others.
func TestADirectoryThatAnswersWithAnErrorIsAskedOn(t *testing.T) {
	t.Parallel()
	for _, class := range []directories.Class{directories.Standby, directories.Schema, directories.Rights} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{users: map[string]directories.Account{"ada": {Exists: true}}}
				e := openShelf(t, s, Config{})
				s.set(func() { s.failure = &directories.Error{Class: class, Text: "it cannot tell"} })
				for i := range 2 * breakAfter {
					if got := said(e, fmt.Sprint("nobody", i)); got != "unknown" {
						t.Errorf("somebody is %s", got)
					}
				}
				s.set(func() { s.failure = nil })
				if got := said(e, "ada"); got != "there" {
					t.Errorf("ada is %s", got)
				}
			})
		})
	}
}

// An account that would end sessions ends none once the directory has answered without a
// proof, not even while that is away later.
func TestAnAnswerWithoutAProofMakesTheLastKnownAccountDoubtful(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{users: map[string]directories.Account{"eve": {Exists: true, Disabled: true}}}
		e := openShelf(t, s, Config{TTL: time.Millisecond})
		for _, step := range []struct {
			what    string
			failure error
			source  Source
			doubted bool
		}{
			{"at first", nil, FromDatabase, false},
			{"away", &directories.Error{Class: directories.Down}, FromFallback, false},
			{"slow", &directories.Error{Class: directories.Slow}, FromFallback, false},
			{"back", nil, FromDatabase, false},
			{"without rights", &directories.Error{Class: directories.Rights}, FromFallback, true},
			{"away after that", &directories.Error{Class: directories.Down}, FromFallback, true},
			{"back again", nil, FromDatabase, false},
			{"unproven", &directories.Error{Class: directories.Unproven}, FromFallback, true},
			{"proven", nil, FromDatabase, false},
			{"away in the end", &directories.Error{Class: directories.Down}, FromFallback, false},
		} {
			time.Sleep(2 * breakFor)
			s.set(func() { s.failure = step.failure })
			time.Sleep(2 * breakFor) // by then it is probed
			synctest.Wait()
			account, source, err := ask(e, "eve", time.Time{})
			if err != nil || source != step.source || account.Doubted() != step.doubted {
				t.Errorf("%s: from %q, doubted %t, %v", step.what, source, account.Doubted(), err)
			}
		}
	})
}

func TestADirectoryThatIsAwayEndsNoSession(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*shelf){
		"an error":        func(s *shelf) { s.failure = errors.New("it is away") },
		"too few answers": func(s *shelf) { s.short = true },
		"a panic":         func(s *shelf) { s.panics = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{users: map[string]directories.Account{"ada": {Exists: true}}}
				e := openShelf(t, s, Config{})
				if got := said(e, "ada"); got != "there" {
					t.Fatalf("ada is %s", got)
				}
				if got := said(e, "eve"); got != "gone" {
					t.Fatalf("eve is %s", got)
				}
				time.Sleep(time.Millisecond)
				s.set(func() { fail(s) })
				s.changed() // as when a connection breaks
				for n := range 10 {
					if got := said(e, "eve"); got != "unknown" {
						t.Errorf("one that was gone is %s", got)
					}
					if got := said(e, fmt.Sprint("new", n)); got != "unknown" {
						t.Errorf("a new one is %s", got)
					}
					if got := said(e, "ada"); got != "last known" {
						t.Errorf("one that was known is %s", got)
					}
				}
				if stats := e.Stats(); !stats.Broken || stats.Failure == "" {
					t.Errorf("the state: %+v", stats)
				}
				s.set(func() { s.failure, s.short, s.panics = nil, false, false })
				time.Sleep(2 * breakFor) // by then it is probed
				synctest.Wait()
				for subject, want := range map[string]string{"new0": "gone", "ada": "there"} {
					if got := said(e, subject); got != want {
						t.Errorf("it is back, and %s is %s, want %s", subject, got, want)
					}
				}
			})
		})
	}
}

func TestAfterOneFailureADirectoryIsKnownToBeBackWithoutARequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{users: map[string]directories.Account{"ada": {Exists: true}}}
		e := openShelf(t, s, Config{})
		s.set(func() { s.failure = errors.New("it is away") })
		if got := said(e, "ada"); got != "unknown" {
			t.Errorf("it is %s", got)
		}
		time.Sleep(2*breakAfter*breakFor + breakFor/2)
		s.set(func() {
			if s.asked != 1+2*breakAfter || s.gap != breakFor {
				t.Errorf("it was asked %d times, once every %s", s.asked, s.gap)
			}
		})
		if stats := e.Stats(); stats.Failure != "it is away" || stats.Broken {
			t.Errorf("one request has failed, and the state is %+v", stats)
		}
		s.set(func() { s.failure = nil })
		time.Sleep(breakFor)
		if stats := e.Stats(); stats.Failure != "" {
			t.Errorf("it is back, and the state is %+v", stats)
		}
	})
}

func TestCloseEndsTheProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // waits for all that it has started
		e := Open(&shelf{failure: errors.New("it is away")}, Config{})
		time.Sleep(time.Millisecond)
		said(e, "ada")
		synctest.Wait()
		if !e.probing.Load() {
			t.Fatal("it is not probed")
		}
		closed(t, e)
		said(e, "ada")
	})
}

// stopped is the engine of a database whose server was stopped after a lookup,
// and what it logs.
func stopped(t *testing.T) (*pgtest.Server, *Engine, *observer.ObservedLogs) {
	t.Helper()
	s := ownServer(t, nil, oneUser)
	e, lines := open(t, s.DSN("postgres"), Config{Poll: -1})
	look(t, e, "live")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return s, e, lines
}

func TestWhileTheDatabaseIsAwayNobodyWaitsAndItIsTriedInTheBackground(t *testing.T) {
	t.Parallel()
	s, e, _ := stopped(t)
	eventually.Holds(t, "it is known to be away", func() bool { return failure(t, e, "unheard of") == e.errAway })
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// No lookup is made, so none can have found out.
	eventually.Holds(t, "it is known to be back", func() bool { return !e.Stats().Broken })
	if account, source, err := ask(e, "unheard of", time.Time{}); err != nil || source != FromDatabase || account.Exists {
		t.Errorf("%+v, %s, %v", account, source, err)
	}
}

func TestAfterOneFailureTheDatabaseIsKnownToBeBackWithoutARequest(t *testing.T) {
	t.Parallel()
	s, e, lines := stopped(t)
	failure(t, e, "unheard of")
	if stats := e.Stats(); stats.Failure == "" || stats.Broken {
		t.Errorf("one request has failed, and the state is %+v", stats)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	recovered := func() int { return lines.FilterMessage("user lookup recovered").Len() }
	eventually.Holds(t, "it is known to be back", func() bool { return recovered() > 0 })
	if stats := e.Stats(); stats.Failure != "" || recovered() != 1 {
		t.Errorf("that was logged %d times, and the state is %+v", recovered(), stats)
	}
}

// Anybody may ask, and as often as they like.
func TestWhoAsksWhetherLookupsSucceedCausesOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{users: map[string]directories.Account{"ada": {Exists: true}}, failure: &directories.Error{Class: directories.Down}}
		e := openShelf(t, s, Config{})
		for range 1000 {
			if e.Answers() {
				t.Fatal("it is said to succeed")
			}
		}
		synctest.Wait()
		if n := s.lookups(); n != 1 {
			t.Errorf("%d lookups", n)
		}
		s.set(func() { s.failure = nil })
		time.Sleep(2 * breakFor) // by then the directory is probed
		synctest.Wait()
		known := s.lookups()
		for range 1000 {
			if !e.Answers() {
				t.Fatal("it is said to fail")
			}
		}
		if n := s.lookups() - known; n != 0 {
			t.Errorf("%d more lookups", n)
		}
		s.set(func() { s.failure = &directories.Error{Class: directories.Schema} })
		said(e, "bob")
		if e.Answers() {
			t.Error("it is said to succeed when it fails again")
		}
	})
}
