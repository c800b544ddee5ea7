package accounts

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

// braked opens a directory with a brake, which has seen some users live.
func braked(t *testing.T, name string, users int) (*Postgres, *observer.ObservedLogs) {
	t.Helper()
	p, lines := open(t, server.DSN(name), Config{Poll: quickly, TTL: time.Hour, BrakeShare: 0.5, BrakeWindow: time.Minute})
	if !p.Braking() {
		t.Error("sessions can end before any user was found")
	}
	lookup(t, p, "u1")
	eventually.Holds(t, "the database is watched", func() bool { return p.Stats().Watching })
	for i := range users {
		lookup(t, p, "u"+strconv.Itoa(i+1))
		lookup(t, p, "u"+strconv.Itoa(i+1))
	}
	if p.Braking() {
		t.Error("sessions cannot end though users were found")
	}
	return p, lines
}

func TestTheBrakeHoldsWhenTooManyAreGoneAtOnce(t *testing.T) {
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
			name := database(t, `create table users (id text primary key, n int, banned boolean)`, `insert into users select 'u' || g, g from generate_series(1, 20) g`)
			p, lines := braked(t, name, c.users)
			run(t, name, c.change...)
			becomes(t, p, c.first, "is gone", func(a *Account) bool { return !a.Exists || a.Disabled })
			if c.brakes && !p.Braking() {
				t.Error("a user was found gone before the brake was on")
			}
			if !c.brakes {
				eventually.Holds(t, "the brake is off", func() bool { return !p.Braking() })
				return
			}
			alarm := lines.FilterMessageSnippet("the brake is on")
			if alarm.Len() != 1 || !strings.Contains(fmt.Sprint(alarm.All()[0].ContextMap()["likely"]), c.likely) {
				t.Errorf("logged %v", lines.All())
			}
			run(t, name, `delete from users`, `insert into users select 'u' || g, g from generate_series(1, 20) g`)
			run(t, name, `delete from users where id = 'u1'`)
			eventually.Holds(t, "the users are back, and one may be gone", func() bool {
				_, _, _ = ask(p, "u1", p.now())
				return !p.Braking()
			})
		})
	}
}

func TestRowLevelSecurityIsTheLikelyCause(t *testing.T) {
	name := database(t, `create table users (id text primary key); insert into users select 'u' || g from generate_series(1, 20) g`)
	reader := "secured_of_" + name
	run(t, name, `create role `+reader+` login`, `grant select on users to `+reader)
	p, lines := open(t, strings.Replace(server.DSN(name), "postgres@", reader+"@", 1), Config{Poll: quickly, TTL: time.Hour, BrakeShare: 0.5, BrakeWindow: time.Minute})
	lookup(t, p, "u1")
	eventually.Holds(t, "the database is watched", func() bool { return p.Stats().Watching })
	for i := range 20 {
		lookup(t, p, "u"+strconv.Itoa(i+1))
		lookup(t, p, "u"+strconv.Itoa(i+1))
	}
	run(t, name, `alter table users enable row level security`)
	becomes(t, p, "u1", "is hidden", gone)
	if alarm := lines.FilterMessageSnippet("the brake is on"); !p.Braking() || alarm.Len() != 1 || !strings.Contains(fmt.Sprint(alarm.All()[0].ContextMap()), "row-level security") {
		t.Errorf("braking: %t, logged %v", p.Braking(), lines.All())
	}
}
