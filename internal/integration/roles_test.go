package integration

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestTheRoleOfTheDocumentationIsEnough creates it with exactly that SQL, and
// lets the module do all that it does.
func TestTheRoleOfTheDocumentationIsEnough(t *testing.T) {
	caddy := program(t)
	for _, page := range []string{"../../docs/operations.md", "../../README.md"} {
		t.Run(page, func(t *testing.T) {
			sql := regexp.MustCompile("(?s)```sql\n(CREATE ROLE caddy_stale_session .*?)```").FindStringSubmatch(read(t, page))
			if sql == nil {
				t.Fatal("it has no SQL for the role")
			}
			database := standardapp.NewDatabase(t)
			owner := os.Getenv("DATABASE_URL")
			standardapp.Execute(t, database, `revoke all on schema public from public`, `revoke temporary on database `+database+` from public`,
				`alter table "User" add column "createdAt" timestamptz default now(), add column email text, add column password text`, sql[1])
			t.Cleanup(func() {
				standardapp.Execute(t, database, `drop owned by caddy_stale_session`, `drop role caddy_stale_session`)
			})
			t.Setenv("DATABASE_URL", strings.Replace(owner, "postgres@", "caddy_stale_session@", 1))
			o := caddytest.NewOperator(t)
			base := caddytest.Start(t, o.Config("stale_session {", "	poll 20ms", "}", caddytest.NewApp(t).Proxy()))
			status := func(text string) func() bool {
				return func() bool { return strings.Contains(o.Do("GET", "status", nil, nil), text) }
			}
			live := standardapp.TokenOf(t, "live", 0)
			if got := caddytest.Ask(t, base, live); got != 200 {
				t.Errorf("status %d", got)
			}
			if got := caddytest.Ask(t, base, standardapp.Session(t, "deleted")); got != 401 {
				t.Errorf("status %d of a deleted user", got)
			}
			eventually.Holds(t, "the database is watched", status(`"watched":true`))
			if out, code := command(t, caddy, "", "doctor"); code != 0 || strings.Contains(out, `"bad"`) || strings.Contains(out, "can write") {
				t.Errorf("the doctor: %s", out)
			}
			run(t, caddy, "stale-session", "install", "--database", owner)
			eventually.Holds(t, "the triggers are heard", status(`"notified":true`))
			if out, code := command(t, caddy, "", "doctor"); code != 0 || !strings.Contains(out, "install --grant caddy_stale_session") {
				t.Errorf("the doctor, without the right to revocations: %s", out)
			}
			run(t, caddy, "stale-session", "install", "--database", owner, "--grant", "caddy_stale_session")
			if out, code := command(t, caddy, "", "doctor"); code != 0 || !strings.Contains(out, "nodes share revocations") {
				t.Errorf("the doctor, with the right to revocations: %s", out)
			}
			standardapp.Execute(t, database, `delete from "User"`)
			eventually.Holds(t, "a deletion is noticed", func() bool { return caddytest.Ask(t, base, live) == 401 })
			standardapp.Execute(t, database, `truncate "User"`)
			eventually.Holds(t, "a reset is noticed", status(`"reset_at"`))
			recipe := regexp.MustCompile("(?s)```sql\n(ALTER DEFAULT PRIVILEGES .*?)```").FindStringSubmatch(read(t, "../../docs/operations.md"))
			if recipe == nil {
				t.Fatal("it has no SQL that keeps the rights")
			}
			standardapp.Execute(t, database, recipe[1], `drop schema public cascade`, `create schema public`, `create table "User" (id text primary key)`, `insert into "User" values ('again')`)
			if got := caddytest.Ask(t, base, standardapp.Session(t, "again")); got != 200 {
				t.Errorf("status %d after a reset", got)
			}
			if got := caddytest.Ask(t, base, standardapp.Session(t, "nobody")); got != 401 {
				t.Errorf("status %d of somebody who is not there after a reset", got)
			}
			run(t, caddy, "stale-session", "uninstall", "--database", owner)
		})
	}
}
