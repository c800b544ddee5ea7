package accounts

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

func TestADirectoryOfAThirdParty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{users: map[string]directories.Account{"ada": {Exists: true}, "odd": {Failure: errors.New("cannot be read")}}}
		e := openShelf(t, s, Config{})
		for subject, want := range map[string]string{"ada": "there", "bob": "gone", "odd": "unknown", "": "gone"} {
			if got := said(e, subject); got != want {
				t.Errorf("%q is %s, want %s", subject, got, want)
			}
		}
		before := s.lookups()
		for range 100 {
			said(e, "ada")
		}
		if n := s.lookups() - before; n != 0 {
			t.Errorf("%d lookups of a user who is known", n)
		}
		s.set(func() { delete(s.users, "ada") })
		s.changed("ada")
		if got := said(e, "ada"); got != "gone" {
			t.Errorf("after a change it is %s", got)
		}
		s.set(func() { s.users["bob"] = directories.Account{Exists: true} })
		time.Sleep(time.Millisecond)
		s.changed() // any may be another
		if got := said(e, "bob"); got != "there" {
			t.Errorf("after any change it is %s", got)
		}
		if n := e.Stats().Notifications; n != 2 {
			t.Errorf("%d changes were reported, of 2", n)
		}
	})
}

// A database that sleeps takes some seconds to answer, which `timeout` allows for.
func TestALookupMayTakeAsLongAsARequestWaits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		timeout time.Duration
		want    string
	}{{5 * time.Second, "there"}, {time.Second, "unknown"}} {
		synctest.Test(t, func(t *testing.T) {
			s := &shelf{users: map[string]directories.Account{"ada": {Exists: true}}}
			e := openShelf(t, s, Config{Timeout: c.timeout})
			hold := make(chan struct{})
			s.set(func() { s.hold = hold })
			go func() {
				time.Sleep(4 * time.Second) // of the bubble
				close(hold)
			}()
			if got := said(e, "ada"); got != c.want {
				t.Errorf("with timeout %s it is %s, want %s", c.timeout, got, c.want)
			}
			time.Sleep(5 * time.Second)
		})
	}
}

// One lookup may have seen the middle of a change, or a replica that lags.
func TestAnAbsenceCountsOnceItIsConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{users: map[string]directories.Account{"ada": {Exists: true}}, late: map[string]bool{"ada": true}}
		e := openShelf(t, s, Config{})
		for subject, want := range map[string]string{"ada": "there", "bob": "gone"} {
			before := s.lookups()
			if got := said(e, subject); got != want || s.lookups() != before+2 {
				t.Errorf("%s is %s after %d lookups, want %s after 2", subject, got, s.lookups()-before, want)
			}
		}
		before := s.lookups()
		if account, source, err := ask(e, "bob", time.Now().Add(time.Second)); err != nil || source != FromDatabase || account.Exists || s.lookups() != before+2 {
			t.Errorf("bob, as he is now: %+v, %s, %v, after %d lookups, want 2", account, source, err, s.lookups()-before)
		}
	})
}

// A primary that hangs must not delay users whom a replica knows.
func TestAConfirmationThatHangsDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	const others = 20
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{users: make(map[string]directories.Account)}
		for i := range others {
			s.users[fmt.Sprint("user", i)] = directories.Account{Exists: true}
		}
		e := openShelf(t, s, Config{})
		s.set(func() { s.hangs = true })
		began := time.Now()
		answers := make(chan string)
		asks := 0
		unanswered := func(subject string, since time.Time) {
			asks++
			go func() {
				answer := inAWord(ask(e, subject, since))
				answers <- fmt.Sprint(subject, " is ", answer, " after ", time.Since(began))
			}()
			synctest.Wait()
		}
		for i := range 2 * (lookupWorkers + confirmWorkers) {
			unanswered(fmt.Sprint("nobody", i), time.Time{})
			unanswered(fmt.Sprint("user", i), began) // as it is now
		}
		for i := range others {
			if got := said(e, fmt.Sprint("user", i)); got != "there" {
				t.Errorf("user%d is %s", i, got)
			}
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the others have waited for %s", waited)
		}
		for range asks {
			if answer, want := <-answers, fmt.Sprint(" is unknown after ", DefaultTimeout); !strings.HasSuffix(answer, want) {
				t.Errorf("%s, want%s", answer, want)
			}
		}
	})
}

func TestAnAnswerFromBeforeAChangeIsNotKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{users: map[string]directories.Account{"ada": {Exists: true}}}
		e := openShelf(t, s, Config{})
		hold := make(chan struct{})
		s.set(func() { s.hold = hold })
		answer := make(chan string)
		go func() { answer <- said(e, "ada") }()
		synctest.Wait()
		if s.lookups() != 1 {
			t.Fatalf("%d lookups are under way", s.lookups())
		}
		s.set(func() { delete(s.users, "ada"); s.hold = nil })
		s.changed("ada")
		close(hold)
		if got := <-answer; got != "gone" {
			t.Errorf("for the request that waited it is %s", got)
		}
		if got := said(e, "ada"); got != "gone" {
			t.Errorf("it is %s", got)
		}
	})
}
