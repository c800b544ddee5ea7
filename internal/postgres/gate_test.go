package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// What the listener does itself is no change, and without triggers it does nothing.
func TestWithoutAChangeNothingIsAskedFor(t *testing.T) {
	t.Parallel()
	s := pgtest.StartFor(t, "log_statement=all", "autovacuum=off") // nobody else commits
	if err := s.Exec(t.Context(), "postgres", `create table users (id text primary key); insert into users values ('live')`); err != nil {
		t.Fatal(err)
	}
	count := func(text string) int { return strings.Count(s.Log(), text) }
	const poll = 20 * time.Millisecond
	for _, state := range []listenerState{noTriggers, active} { // one after the other: the log is of both
		d, err := Open(Config{DSN: func() (string, error) { return s.DSN("postgres"), nil }})
		if err != nil {
			t.Fatal(err)
		}
		if state == active {
			install(t, d)
		}
		d.echoEvery = 25 * poll
		e := accounts.Open(d, accounts.Config{Poll: poll, TTL: time.Hour, Timeout: time.Minute})
		live := func() accounts.Source {
			t.Helper()
			var account accounts.Account
			source, err := e.Lookup(t.Context(), accounts.Query{Query: directories.Query{Subject: []byte("live")}, Now: time.Now()}, &account)
			if err != nil || !account.Exists {
				t.Fatalf("%+v, %v", &account, err)
			}
			return source
		}
		live()
		eventually.Holds(t, "it is watched, and an echo has arrived", func() bool {
			return e.Stats().Watching && listenerState(d.state.Load()) == state
		})
		e.Flush()
		live() // from here on it holds
		lookups, echoes, reads := count("with ordinality"), count("pg_notify"), count("pg_current_snapshot")
		eventually.Holds(t, "the gate is read for as long as five tests of the channel take", func() bool {
			if source := live(); source != accounts.FromCache {
				t.Errorf("it comes from the %s", source)
			}
			return count("pg_current_snapshot") > reads+150 && (state == noTriggers || count("pg_notify") > echoes+5)
		})
		if after := count("with ordinality"); after != lookups {
			t.Errorf("%d lookups", after-lookups)
		}
		if after := count("pg_notify"); state == noTriggers && after != echoes {
			t.Errorf("%d echoes without triggers", after-echoes)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheGateThatATransactionLeaves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ gate, transaction, want string }{
		{"primary 100:100: 2026-11-23 10:00:00+00", "100", "primary 101:101: 2026-11-23 10:00:00+00"},
		{"primary 90:100:90,95 2026-11-23", "100", "primary 90:101:90,95 2026-11-23"},
		{"primary 100:100: 2026", "101", ""}, // another one came first
		{"primary 100:100: 2026", "", ""},
		{"standby 0/3000060 2026", "100", ""},
		{"", "1", ""},
	} {
		if got := withTransaction(c.gate, c.transaction); got != c.want {
			t.Errorf("after %s, %q is %q, want %q", c.transaction, c.gate, got, c.want)
		}
	}
}

// Only the clock of a primary is that which writes rows.
func TestTheGateTellsTheClockOfAPrimary(t *testing.T) {
	t.Parallel()
	d, _ := open(t, server.DSN(database(t, `create table users (id text primary key)`)), Config{})
	opened, err := d.Watch(t.Context(), func(...string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	for range 3 {
		before := time.Now()
		reading, err := opened.(directories.Gate).Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if after := time.Now(); reading.Clock.Before(before.Truncate(time.Microsecond)) || reading.Clock.After(after) {
			t.Errorf("between %s and %s it is %s", before, after, reading.Clock)
		}
	}
}
