package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

// The connection that watches may see something else than lookups do. What it sees
// ends nobody who is live, and everybody who is gone is noticed soon.
func TestTheWatchHasOtherEyes(t *testing.T) {
	t.Parallel()
	const users = `create table users (id text primary key, "deletedAt" timestamptz)`
	for name, c := range map[string]struct {
		schema   string
		lookups  string   // parameters of the address
		commands []string // with %s for the role that watches
		says     string
	}{
		"another search path": {
			schema:  `create schema app; create table app.users (id text primary key, "deletedAt" timestamptz); ` + users,
			lookups: "&search_path=app,public", commands: []string{`grant usage on schema app to %s`, `grant select on app.users, public.users to %s`}, says: "search_path",
		},
		"a role that may read the ids only": {
			schema: users, commands: []string{`grant select (id) on users to %s`}, says: "the same rights",
		},
		"a role that may read nothing": {schema: users, commands: []string{`revoke all on users from %s`}, says: "GRANT SELECT"},
		"a role from which a policy hides all rows": {
			schema: users + `; alter table users enable row level security`, commands: []string{`grant select on users to %s`}, says: "row-level security",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, c.schema)
			table := "users"
			if c.lookups != "" {
				table = "app.users"
			}
			run(t, db, `insert into `+table+` select 'user' || n from generate_series(1, 20) n`)
			_, listen := role(t, db, c.commands...)
			d, lines := open(t, server.DSN(db)+c.lookups, Config{ListenDSN: func() (string, error) { return listen, nil }})
			e := engine(t, d, accounts.Config{Poll: quickly, TTL: time.Hour})
			e.StartWatch()
			eventually.Holds(t, "it is watched", func() bool { return e.Stats().Watching })
			all := []visitor{{subject: "user1", want: "live"}, {subject: "user2", want: "live"}, {subject: "user3", want: "live"}}
			visit(t, e, all...)
			// Somebody writes: the accounts in use are re-checked.
			for range 20 {
				run(t, db, `insert into `+table+` values ('other') on conflict do nothing`, `delete from `+table+` where id = 'other'`)
				visit(t, e, all...)
			}
			run(t, db, `delete from `+table+` where id = 'user1'`, `update `+table+` set "deletedAt" = now() where id = 'user2'`)
			for subject, want := range map[string]string{"user1": "user_not_found", "user2": "user_disabled", "user3": "live"} {
				eventually.Holds(t, subject+" is "+want, func() bool {
					got, _ := judge(e, visitor{subject: subject, age: ago})
					return got == want
				})
			}
			logged := false
			for _, line := range lines.All() {
				for _, value := range line.ContextMap() {
					text, _ := value.(string)
					logged = logged || strings.Contains(text, c.says)
				}
			}
			if !logged {
				t.Errorf("nothing that was logged says %q: %v", c.says, lines.All())
			}
		})
	}
}
