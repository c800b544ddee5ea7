package postgres

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// replicated starts a server, and a standby of it. No autovacuum: only the test
// commits.
func replicated(t *testing.T, commands ...string) (primary, standby *pgtest.Server) {
	t.Helper()
	primary = ownServer(t, "wal_level=replica", "max_wal_senders=4", "autovacuum=off")
	execute(t, primary, commands...)
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { standby.Close() })
	return primary, standby
}

func TestAStandbyProvesNoAbsence(t *testing.T) {
	t.Parallel()
	primary, standby := replicated(t)
	d, _ := open(t, standby.DSN("postgres"), Config{})
	e := engine(t, d, accounts.Config{TTL: time.Nanosecond}) // nothing is cached
	// known reports whether the standby's answer counts for a session of that
	// time.
	known := func(subject string, since time.Time, exists bool) bool {
		t.Helper()
		account, _, err := ask(e, subject, since)
		var failure *directories.Error
		if err == nil && account.Exists != exists || err != nil && (!errors.As(err, &failure) || failure.Class != directories.Standby || !strings.Contains(failure.Error(), "primary")) {
			t.Fatalf("%+v, %v", account, err)
		}
		return err == nil && (since.IsZero() || e.Proves(account, since))
	}
	eventually.Holds(t, "the user is on the standby", func() bool {
		account, _, err := ask(e, "live", time.Time{})
		return err == nil && account.Exists
	})
	if gone, found, err := d.Gone(t.Context(), []string{"gone", "live"}); len(gone) > 0 || found != 1 || err == nil || !strings.Contains(err.Error(), "primary") {
		t.Errorf("of the users of a sessions table, %v are gone, and %d found: %v", gone, found, err)
	}
	signedIn := time.Now()
	if known("gone", signedIn, false) {
		t.Error("a user who signed in just now may be unknown to the standby yet")
	}
	if known("live", signedIn, true) {
		t.Error("the row of a user who signed in just now may have changed")
	}
	if !known("live", time.Time{}, true) {
		t.Error("the row of a user is not enough for an earlier session")
	}
	eventually.Holds(t, "the standby replays a later change, so it would know the user", func() bool {
		execute(t, primary, `create table if not exists later ()`, `drop table later`)
		return known("gone", signedIn, false)
	})
	if !known("live", signedIn, true) {
		t.Error("the standby has replayed a later change, and would know the row")
	}
	execute(t, standby, `select pg_promote(false)`)
	eventually.Holds(t, "the standby is promoted", func() bool {
		return standby.Exec(t.Context(), "postgres", `do $$ begin assert not pg_is_in_recovery(); end $$`) == nil
	})
	if !known("gone", time.Now(), false) {
		t.Error("a primary proves no absence")
	}
	if gone, found, err := d.Gone(t.Context(), []string{"gone", "live"}); !slices.Equal(gone, []string{"gone"}) || found != 1 || err != nil {
		t.Errorf("of the users of a sessions table, %v are gone, and %d found: %v", gone, found, err)
	}
}

func TestWhatAStandbyDoesNotKnowIsConfirmedOnThePrimary(t *testing.T) {
	t.Parallel()
	primary, standby := replicated(t, `alter table users add banned boolean not null default true`)
	d, lines := open(t, "postgres://postgres@"+standby.Address()+","+primary.Address()+"/postgres?sslmode=disable", Config{})
	e := engine(t, d, accounts.Config{Poll: quickly, TTL: time.Nanosecond}) // nothing is cached
	find := func(subject string, since time.Time) *accounts.Account {
		t.Helper()
		account, source, err := ask(e, subject, since)
		if err != nil || source != accounts.FromDatabase {
			t.Fatalf("%q: %s, %v", subject, source, err)
		}
		return account
	}
	if !find("live", time.Time{}).Exists {
		t.Error("the user was not found")
	}
	execute(t, standby, `select pg_wal_replay_pause()`)
	eventually.Holds(t, "the standby has paused", func() bool {
		return standby.Exec(t.Context(), "postgres", `do $$ begin assert pg_is_wal_replay_paused(); end $$`) == nil
	})
	execute(t, primary, `insert into users values ('fresh')`)
	if !find("fresh", time.Time{}).Exists {
		t.Error("a user whom only the primary knows was not found")
	}
	// What the standby still says of somebody proves nothing about a new session.
	execute(t, primary, `update users set banned = false`)
	if account := find("live", time.Time{}); !account.Disabled || !account.Replica || !account.AsOf.IsZero() {
		t.Errorf("as the standby knows the user: %+v", account)
	}
	if account := find("live", time.Now()); account.Disabled || account.Replica {
		t.Errorf("as the primary does: %+v", account)
	}
	if account := find("gone", time.Time{}); account.Exists || account.Replica {
		t.Errorf("a user whom nobody knows: %+v", account)
	}
	if err := primary.Stop(); err != nil {
		t.Fatal(err)
	}
	account, _, err := ask(e, "unknown", time.Now())
	if e := failureOf(t, account, err); e.Class != directories.Standby {
		t.Errorf("without a primary: %v", e)
	}
	if lines.FilterMessageSnippet("primary is not available").Len() == 0 {
		t.Errorf("logged %v", lines.All())
	}
}

// The only address is that of a standby, which lags: what it says of somebody may
// have changed.
func TestWhatALaggingStandbySaysEndsNobody(t *testing.T) {
	t.Parallel()
	const columns = `alter table users add banned boolean not null default false, add email text, add "deletedAt" timestamptz;
		insert into users values ('banned', true), ('renamed', false), ('restored', false), ('steady', true)`
	primary, standby := replicated(t, columns, `update users set email = 'old@x.com'`, `update users set "deletedAt" = now() where id = 'restored'`, `delete from users where id = 'live'`)
	d, _ := open(t, standby.DSN("postgres"), Config{Users: Users{Match: map[string]string{"email": "email"}}})
	e := engine(t, d, accounts.Config{TTL: time.Nanosecond}) // nothing is cached
	visitors := []visitor{
		{subject: "banned", claims: []string{"old@x.com"}, want: "user_disabled"},
		{subject: "renamed", claims: []string{"new@x.com"}, want: "claim_mismatch"},
		{subject: "restored", claims: []string{"old@x.com"}, want: "user_disabled"},
		{subject: "live", claims: []string{"old@x.com"}, want: "user_not_found"},
		{subject: "steady", claims: []string{"old@x.com"}, want: "user_disabled"},
	}
	becomes := func(v visitor, want string) {
		t.Helper()
		v.age = ago
		eventually.Holds(t, "the session of "+v.subject+" is "+want, func() bool {
			got, err := judge(e, v)
			if got == "unknown" && !strings.Contains(err.Error(), "primary") {
				t.Fatalf("%s: %v", v.subject, err)
			}
			return got == want
		})
	}
	execute(t, primary, `create table later ()`) // a standby that has replayed nothing yet knows no time
	for _, v := range visitors {                 // as long as it does not lag
		becomes(v, v.want)
	}
	execute(t, standby, `select pg_wal_replay_pause()`)
	execute(t, primary, `update users set banned = false where id = 'banned'`, `update users set email = 'new@x.com' where id = 'renamed'`,
		`update users set "deletedAt" = null where id = 'restored'`, `insert into users (id, email) values ('live', 'old@x.com')`)
	for _, v := range visitors { // it has received the changes, and not replayed them
		becomes(v, "unknown")
	}
	execute(t, standby, `select pg_wal_replay_resume()`)
	for _, v := range visitors[:4] {
		becomes(v, "live")
	}
	becomes(visitors[4], "user_disabled")
	// It receives nothing any more.
	if err := primary.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the standby has lost the primary", func() bool {
		return standby.Exec(t.Context(), "postgres", `do $$ begin assert not exists (select from pg_stat_wal_receiver); end $$`) == nil
	})
	signedUp := visitor{subject: "signed up since", want: "unknown", age: time.Nanosecond}
	if got, _ := judge(e, signedUp); got != signedUp.want {
		t.Errorf("a session of somebody who has just signed up is %s", got)
	}
}

// The position that a reader of Amazon Aurora has replayed never changes.
func TestAGateThatNeverMovesIsNotTrusted(t *testing.T) {
	t.Parallel()
	_, standby := replicated(t, `create function pg_catalog.aurora_version() returns text language sql as $$ select '16.1' $$`)
	execute(t, standby, `select pg_wal_replay_pause()`)
	d, _ := open(t, standby.DSN("postgres"), Config{})
	opened, err := d.Watch(t.Context(), func(...string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	gate, ok := opened.(directories.Gate)
	if !ok {
		t.Fatal("the watch has no gate")
	}
	var values []string
	for range 3 {
		reading, err := gate.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if values = append(values, reading.Value); slices.Contains(values[:len(values)-1], reading.Value) {
			t.Errorf("the gate is %q twice", reading.Value)
		}
	}
}
