package changes

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestWhatWasProvenEndsNobodyOnceItMayHaveChanged has a user refused, and then admitted
// again while the role cannot see that.
func TestWhatWasProvenEndsNobodyOnceItMayHaveChanged(t *testing.T) {
	pg := pgtest.StartFor(t)
	execute(t, pg, "postgres", `create role reader login`)
	for _, c := range []struct{ what, ends, begins string }{
		{"banned", `update "User" set banned = true where id = 1`, `update "User" set banned = false`},
		{"another user with the ID", `update "User" set "createdAt" = now() where id = 1`, `update "User" set "createdAt" = now() - interval '1 year'`},
		{"deleted", `delete from "User" where id = 1`, `insert into "User" values (1, now() - interval '1 year')`},
	} {
		for _, o := range obstacles {
			t.Run(c.what+", "+o.what, func(t *testing.T) {
				database, err := pg.NewDatabase(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				execute(t, pg, database, `create table "User" (id int primary key, "createdAt" timestamptz not null, banned boolean not null default false)`,
					`insert into "User" values (1, now() - interval '1 year'), (2, now() - interval '1 year')`,
					`grant select on "User" to reader`)
				standardapp.Environment(t, strings.Replace(pg.DSN(database), "postgres@", "reader@", 1))
				base := caddytest.Start(t, caddytest.Site("stale_session {", "	poll 20ms", "}", caddytest.NewApp(t).Proxy()))
				live, session := standardapp.TokenOf(t, "2", time.Hour), standardapp.TokenOf(t, "1", time.Hour)
				is := func(cookie string, status int) func() bool {
					return func() bool { return caddytest.Ask(t, base, cookie) == status }
				}
				eventually.Holds(t, "the session passes", is(session, http.StatusOK))
				execute(t, pg, database, c.ends)
				eventually.Holds(t, "the session is refused", is(session, http.StatusUnauthorized))
				execute(t, pg, database, `begin`, c.begins, o.begin, `commit`)
				eventually.Holds(t, "the session passes again", is(session, http.StatusOK))
				if !is(live, http.StatusOK)() {
					t.Error("the session of another user is refused")
				}
			})
		}
	}
}

// TestWhoWasRefusedStaysSoWhileTheDatabaseIsAway has nobody able to tell whether a ban
// was lifted, until the database is back.
func TestWhoWasRefusedStaysSoWhileTheDatabaseIsAway(t *testing.T) {
	pg := pgtest.StartFor(t)
	execute(t, pg, "postgres", `create table "User" (id int primary key, banned boolean not null)`, `insert into "User" values (1, false), (2, false)`)
	standardapp.Environment(t, pg.DSN("postgres"))
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	poll 20ms", "}", caddytest.NewApp(t).Proxy()))
	banned, live := standardapp.TokenOf(t, "1", time.Hour), standardapp.TokenOf(t, "2", time.Hour)
	is := func(cookie string, status int) func() bool {
		return func() bool { return caddytest.Ask(t, base, cookie) == status }
	}
	for range 2 {
		eventually.Holds(t, "both pass", func() bool { return is(banned, http.StatusOK)() && is(live, http.StatusOK)() })
		execute(t, pg, "postgres", `update "User" set banned = true where id = 1`)
		eventually.Holds(t, "one is refused", is(banned, http.StatusUnauthorized))
		execute(t, pg, "postgres", `create table if not exists other (id serial)`, `insert into other default values`) // changes nothing of them
		for range 100 {
			if !is(banned, http.StatusUnauthorized)() {
				t.Fatal("the ban is lifted by another change")
			}
		}
		if err := pg.Kill(); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if !is(banned, http.StatusUnauthorized)() || !is(live, http.StatusOK)() {
				t.Fatal("the last known account does not count")
			}
		}
		if err := pg.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		execute(t, pg, "postgres", `update "User" set banned = false`)
	}
	eventually.Holds(t, "the ban is lifted", is(banned, http.StatusOK))
}
