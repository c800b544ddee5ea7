package integration

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestPrismaResetsTheDatabaseOfARoleThatOnlyReads drops the schema and makes it
// again, as the owner.
func TestPrismaResetsTheDatabaseOfARoleThatOnlyReads(t *testing.T) {
	caddy := program(t)
	const owner, reader = "prisma_owner", "prisma_reader"
	for name, c := range map[string]struct {
		flags    []string
		survives bool
	}{
		"with --grant":         {[]string{"--grant", reader}, false},
		"with --survive-reset": {[]string{"--grant", reader, "--survive-reset"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			superuser := os.Getenv("DATABASE_URL")
			as := func(role string) string { return strings.Replace(superuser, "postgres@", role+"@", 1) }
			t.Cleanup(func() {
				standardapp.Execute(t, database, `drop owned by `+owner+`, `+reader+` cascade`, `drop role `+owner+`, `+reader)
			})
			standardapp.Execute(t, database, `create role `+owner+` login`, `create role `+reader+` login`, `grant create on database `+database+` to `+owner,
				`revoke all on schema public from public`, `alter schema public owner to `+owner, `alter table "User" owner to `+owner, `insert into "User" values ('stays')`)
			installed := run(t, caddy, append([]string{"stale-session", "install", "--database", as(owner)}, c.flags...)...)
			if price := reader + " can read every table that " + owner + " creates"; strings.Contains(installed, price) != c.survives {
				t.Errorf("install says %s", installed)
			}
			t.Setenv("DATABASE_URL", as(reader))
			o := caddytest.NewOperator(t)
			base := caddytest.Start(t, o.Config("stale_session {", "	poll 20ms", "}", caddytest.NewApp(t).Proxy()))
			stays, goes := standardapp.Session(t, "stays"), standardapp.Session(t, "live")
			for _, cookie := range []string{stays, goes} {
				if status := caddytest.Ask(t, base, cookie); status != http.StatusOK {
					t.Fatalf("before: status %d", status)
				}
			}
			standardapp.Execute(t, database, `set role `+owner, `drop schema "public" cascade`, `create schema "public"`, `create table "User" (id text primary key)`, `insert into "User" values ('stays')`)
			ended := func() bool { return caddytest.Ask(t, base, goes) == http.StatusUnauthorized }
			if !c.survives {
				says := "the users table was recreated and the role lost its rights: run GRANT USAGE ON SCHEMA public TO " + reader + `; GRANT SELECT (id) ON public.\"User\" TO ` + reader
				eventually.Holds(t, "status says what to run", func() bool { return strings.Contains(o.Do("GET", "status", nil, nil), says) })
				for what, cookie := range map[string]string{"live": stays, "stale": goes, "unknown": standardapp.Session(t, "nobody")} {
					if status := caddytest.Ask(t, base, cookie); status != http.StatusOK {
						t.Errorf("without rights, a %s session: status %d", what, status)
					}
				}
				if out, code := command(t, caddy, "", "doctor"); code != 2 || !strings.Contains(out, "the role lacks rights") || strings.Contains(out, "migration") {
					t.Errorf("the doctor, without rights: %s", out)
				}
				run(t, caddy, append([]string{"stale-session", "install", "--database", as(owner)}, c.flags...)...)
			}
			eventually.Holds(t, "the session of the user who is gone ends", ended)
			if status := caddytest.Ask(t, base, stays); status != http.StatusOK {
				t.Errorf("the session of the user who stays: status %d", status)
			}
			removed := run(t, caddy, "stale-session", "uninstall", "--database", as(owner))
			if says := "as " + owner + `: REVOKE SELECT ON public."User" FROM ` + reader; !c.survives && !strings.Contains(removed, says) {
				t.Errorf("uninstall says %s", removed)
			}
			if left := standardapp.PIDs(t, `select oid::int from pg_default_acl where $1 <> ''`, database); len(left) > 0 {
				t.Errorf("%d default privileges are left", len(left))
			}
		})
	}
}
