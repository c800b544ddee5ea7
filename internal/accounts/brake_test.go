package accounts

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

// braked opens the engine of a database with a brake, which has seen some users
// live.
func braked(t *testing.T, dsn string, users int) (*Engine, *observer.ObservedLogs) {
	t.Helper()
	e, lines := open(t, dsn, Config{Poll: quickly, TTL: time.Hour, BrakeShare: 0.5, BrakeWindow: time.Hour})
	if !e.Braking() {
		t.Error("sessions can end before any user was found")
	}
	look(t, e, "u1")
	eventually.Holds(t, "the database is watched", func() bool { return e.Stats().Watching })
	for i := range users {
		inUse(t, e, "u"+strconv.Itoa(i+1))
	}
	if e.Braking() {
		t.Error("sessions cannot end though users were found")
	}
	return e, lines
}

func TestTheBrakeHoldsWhenTooManyAreGoneAtOnce(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		users  int
		change []string
		first  string // a user who is gone
		brakes bool
		likely string
	}{
		"all deleted":        {20, []string{`delete from users`}, "u1", true, "empty"},
		"most replaced":      {20, []string{`update users set id = 'x' || id where n > 5`}, "u6", true, "other rows"},
		"most banned":        {20, []string{`update users set banned = true where n > 5`}, "u6", true, "other rows"},
		"few deleted":        {20, []string{`delete from users where n > 15`}, "u16", false, ""},
		"too few were seen":  {9, []string{`delete from users`}, "u1", false, ""},
		"a reset, truncated": {20, []string{`truncate users`}, "u1", false, ""},
		"a reset, recreated": {20, []string{`drop table users; create table users (id text primary key, n int, banned boolean)`}, "u1", false, ""},
		"another table":      {20, []string{`create schema other; create table other.users (id text primary key, n int, banned boolean)`, `drop table users`, `alter table other.users set schema public`}, "u1", false, ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := database(t, `create table users (id text primary key, n int, banned boolean)`, `insert into users select 'u' || g, g from generate_series(1, 20) g`)
			e, lines := braked(t, server.DSN(name), c.users)
			run(t, name, c.change...)
			becomes(t, e, c.first, "is gone", func(a *Account) bool { return !a.Exists || a.Disabled })
			if c.brakes && !e.Braking() {
				t.Error("a user was found gone before the brake was on")
			}
			if !c.brakes {
				eventually.Holds(t, "the brake is off", func() bool { return !e.Braking() })
				return
			}
			alarm := lines.FilterMessageSnippet("brake on")
			if alarm.Len() != 1 || !strings.Contains(fmt.Sprint(alarm.All()[0].ContextMap()["likely"]), c.likely) {
				t.Errorf("logged %v", lines.All())
			}
			run(t, name, `delete from users`, `insert into users select 'u' || g, g from generate_series(1, 20) g`)
			run(t, name, `delete from users where id = 'u1'`)
			eventually.Holds(t, "the users are back, and one may be gone", func() bool {
				_, _, _ = ask(e, "u1", e.now())
				return !e.Braking()
			})
		})
	}
}

// What a policy hides is not gone: with no brake, and switched on while the
// users are known.
func TestRowLevelSecurityEndsNobody(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id text primary key); insert into users select 'u' || g from generate_series(1, 20) g`)
	reader := "secured_of_" + name
	run(t, name, `create role `+reader+` login`, `grant select on users to `+reader)
	e, lines := braked(t, strings.Replace(server.DSN(name), "postgres@", reader+"@", 1), 20)
	run(t, name, `alter table users enable row level security`)
	says := `row-level security hides rows of "public"."users" from the role ` + reader
	eventually.Holds(t, "the failure says what to do", func() bool {
		account, source, err := ask(e, "u1", time.Time{})
		if err == nil && !account.Exists {
			t.Fatalf("u1 counts as gone, from %s", source)
		}
		return strings.Contains(e.Stats().Failure, says)
	})
	if e.Braking() || lines.FilterMessageSnippet("brake on").Len() > 0 {
		t.Error("the brake is on")
	}
	if _, _, err := ask(e, "u99", time.Time{}); classified(err).Class != directories.Unproven {
		t.Errorf("somebody who is not there: %v", err)
	}
	run(t, name, `create policy stale_session on users for select to `+reader+` using (true)`)
	becomes(t, e, "u99", "is gone with a policy that shows all", gone)
	run(t, name, `delete from users where id = 'u1'`)
	becomes(t, e, "u1", "is gone", gone)
}

// The brake asks no more of a directory than lookups do.
func TestTheBrakeHoldsForADirectoryOfAThirdParty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{users: make(map[string]directories.Account)}
		for i := range minSeen {
			s.users[fmt.Sprint("u", i)] = directories.Account{Exists: true}
		}
		e := openShelf(t, s, Config{BrakeShare: 0.5, BrakeWindow: time.Minute})
		for i := range minSeen {
			said(e, fmt.Sprint("u", i))
			said(e, fmt.Sprint("u", i)) // in use from here on
		}
		if e.Braking() {
			t.Error("sessions cannot end though users were found")
		}
		users := s.users
		s.set(func() { s.users = nil })
		s.changed("u0")
		if got := said(e, "u0"); got != "gone" || !e.Braking() {
			t.Errorf("u0 is %s like all others, and the brake is on: %t", got, e.Braking())
		}
		s.set(func() { s.users = users; delete(users, "u0") })
		s.changed("u0")
		if got := said(e, "u0"); got != "gone" || e.Braking() {
			t.Errorf("u0 is %s unlike all others, and the brake is on: %t", got, e.Braking())
		}
	})
}

// crowd is a shelf with the users of a site, and its engine, which have a day behind
// them.
type crowd struct {
	*shelf
	e *Engine
}

func newCrowd(t *testing.T, regulars int) *crowd {
	s := &shelf{users: make(map[string]directories.Account)}
	c := &crowd{s, openShelf(t, s, Config{BrakeShare: 0.5, BrakeWindow: time.Minute, Poll: 10 * time.Second})}
	c.join("r", regulars)
	time.Sleep(24 * time.Hour)
	for i := range regulars {
		c.come("r", i, i+1)
		if i%5 == 4 {
			time.Sleep(time.Minute)
		}
	}
	time.Sleep(2 * time.Minute)
	return c
}

// join makes accounts, which are named after a group.
func (c *crowd) join(group string, count int) {
	c.set(func() {
		for i := range count {
			c.users[fmt.Sprint(group, i)] = directories.Account{Exists: true, CreatedAt: time.Now()}
		}
	})
}

// come has accounts of a group make some requests.
func (c *crowd) come(group string, from, to int) {
	for i := from; i < to; i++ {
		for range 3 {
			said(c.e, fmt.Sprint(group, i))
		}
	}
}

// leave deletes accounts of a group, at once.
func (c *crowd) leave(group string, from, to int) {
	c.set(func() {
		for i := from; i < to; i++ {
			delete(c.users, fmt.Sprint(group, i))
		}
	})
	for i := from; i < to; i++ {
		c.changed(fmt.Sprint(group, i))
	}
}

// Whoever can sign up and delete the account can do so any number of times.
func TestNobodyHoldsTheBrake(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		does  func(c *crowd)
		holds bool
	}{
		"with accounts that were just made": {func(c *crowd) {
			for range 10 {
				c.come("r", 0, 10)
				c.join("x", 50)
				c.come("x", 0, 50)
				c.leave("x", 0, 50)
				c.come("x", 0, 50)
				time.Sleep(10 * time.Second)
			}
		}, false},
		"with old accounts, in a quiet minute, when the others come": {func(c *crowd) {
			c.join("x", 20)
			time.Sleep(2 * time.Hour)
			c.come("r", 0, 10)
			c.come("x", 0, 20)
			c.leave("x", 0, 20)
			c.come("x", 0, 20)
			c.come("r", 10, 40)
			time.Sleep(10 * time.Second) // until an absence is looked up again
			c.come("x", 0, 1)
		}, false},
		"with accounts that are made meanwhile": {func(c *crowd) {
			c.join("x", 20)
			time.Sleep(2 * time.Hour)
			c.come("r", 0, 10)
			c.come("x", 0, 20)
			c.leave("x", 0, 20)
			c.come("x", 0, 20)
			for round := range 20 {
				group := fmt.Sprint("x", round, "-")
				c.join(group, 20)
				c.come(group, 0, 20)
				c.leave(group, 0, 20)
				c.come(group, 0, 20)
			}
			c.come("r", 10, 40)
			time.Sleep(10 * time.Second) // until an absence is looked up again
			c.come("x", 0, 1)
		}, false},
		"for more than a day, with more accounts than there are others": {func(c *crowd) {
			c.join("x", 200)
			time.Sleep(2 * time.Hour)
			c.come("x", 0, 200)
			c.leave("x", 0, 200)
			for range 26 {
				c.come("x", 0, 200)
				c.come("r", 0, 40)
				if c.e.Braking() {
					time.Sleep(time.Hour)
				}
			}
		}, false},
		"but one who is gone by mistake, with most others": {func(c *crowd) {
			c.come("r", 0, 20)
			c.leave("r", 0, 12)
			c.leave("r", 20, 32)
			for range 20 {
				c.come("r", 0, 40)
				time.Sleep(time.Hour)
			}
		}, true},
		"but another database, for days": {func(c *crowd) {
			c.come("r", 0, 20)
			c.leave("r", 0, 40)
			for range 100 {
				c.come("r", 0, 40)
				time.Sleep(time.Hour)
			}
		}, true},
		"but another database, where others sign up": {func(c *crowd) {
			c.come("r", 0, 20)
			c.leave("r", 0, 40)
			c.come("r", 0, 40)
			c.join("y", 100)
			c.come("y", 0, 100)
			time.Sleep(2 * time.Hour)
			c.come("y", 0, 100)
			c.come("r", 0, 40)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				site := newCrowd(t, 40)
				if site.e.Braking() {
					t.Fatal("the brake is on")
				}
				c.does(site)
				if site.e.Braking() != c.holds {
					t.Errorf("the brake is on: %t", !c.holds)
				}
			})
		})
	}
}

// A reset that is noticed while the brake is being decided on takes it off all the
// same: what was found belongs to the users before it.
func TestAResetReleasesTheBrakeForGood(t *testing.T) {
	t.Parallel()
	// In each, all users are in use, and are replaced.
	for name, c := range map[string]func(t *testing.T, e *Engine, s *shelf){
		"while the brake looks users up": func(_ *testing.T, e *Engine, s *shelf) {
			next := make(chan struct{})
			s.set(func() { s.users, s.hold = nil, next })
			s.changed("u0")
			var asking sync.WaitGroup
			asking.Go(func() { _ = said(e, "u0") })
			next <- struct{}{} // she is not found
			next <- struct{}{} // which is confirmed
			synctest.Wait()
			time.Sleep(time.Millisecond)
			e.brake.release()
			s.set(func() { s.hold = nil })
			next <- struct{}{} // none of the others is either
			asking.Wait()
		},
		"while the others are still cached": func(t *testing.T, e *Engine, s *shelf) {
			time.Sleep(time.Millisecond)
			e.brake.release()
			time.Sleep(time.Duration(recentFor)) // so that they count as seen once more
			for i := range minSeen {
				if got := said(e, fmt.Sprint("u", i)); got != "there" {
					t.Errorf("u%d is %s", i, got)
				}
			}
			s.set(func() { s.users = nil })
			s.changed("u0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{users: make(map[string]directories.Account)}
				for i := range minSeen {
					s.users[fmt.Sprint("u", i)] = directories.Account{Exists: true}
				}
				e := openShelf(t, s, Config{TTL: time.Hour, BrakeShare: 0.5, BrakeWindow: time.Hour})
				for i := range minSeen {
					said(e, fmt.Sprint("u", i))
					said(e, fmt.Sprint("u", i)) // in use from here on
				}
				c(t, e, s)
				if got := said(e, "u0"); got != "gone" || e.Braking() {
					t.Errorf("u0 is %s like all others, and the brake is on: %t", got, e.Braking())
				}
			})
		})
	}
}
