package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// people is a users table with ids that are used again.
const people = `create table "User" (id serial primary key, email text, "createdAt" timestamptz not null default now())`

// tab is a tab that is signed in as the user 1, at an app that renews the session at
// each poll, as Auth.js does.
type tab struct {
	t      *testing.T
	base   string
	cookie string
}

// open signs in. The clock of the app is ahead of ours.
func openTab(t *testing.T, app *caddytest.App, base string, ahead time.Duration) *tab {
	t.Helper()
	made := func() string {
		token, err := mint.V4(standardapp.Secret, map[string]any{"sub": "1", "iat": time.Now().Add(ahead).Unix()})
		if err != nil {
			t.Error(err)
		}
		return standardapp.CookieName + "=" + token
	}
	app.Answer(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Cookie"), standardapp.CookieName) {
			w.Header().Set("Set-Cookie", made()+"; Path=/")
		}
	})
	return &tab{t, base, made()}
}

// poll polls the session, and keeps the cookie that comes.
func (b *tab) poll() {
	b.t.Helper()
	response := caddytest.Do(b.t, http.MethodGet, b.base+"/api/auth/session", http.Header{"Cookie": {b.cookie}})
	for _, c := range response.Cookies() {
		if c.Name == standardapp.CookieName {
			b.cookie = c.Name + "=" + c.Value
		}
	}
}

// open opens a page, and returns the status.
func (b *tab) open() int {
	b.t.Helper()
	return caddytest.Ask(b.t, b.base+"/admin", b.cookie)
}

func TestAnOpenTabDoesNotBecomeSomebodyElseAfterAReset(t *testing.T) {
	const others = `insert into "User" (email) values ('bob@b.c'), ('ada@b.c')`
	for way, reset := range map[string][]string{
		"TRUNCATE":     {`truncate "User" restart identity`, others},
		"DROP TABLE":   {`drop table "User"`, people, others},
		"DROP SCHEMA":  {`drop schema public cascade`, `create schema public`, people, others},
		"by migration": {`drop table "User"`, people, `alter table "User" add column name text`, others, `create index on "User" (email)`},
		"DELETE":       {`delete from "User"`, `insert into "User" (id, email) values (1, 'bob@b.c'), (2, 'ada@b.c')`},
	} {
		for _, triggers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, triggers %t", way, triggers), func(t *testing.T) {
				name := standardapp.NewDatabase(t)
				standardapp.Execute(t, name, `drop table "User"`, people, `insert into "User" (email, "createdAt") values ('ada@b.c', now() - interval '1 day'), ('bob@b.c', now() - interval '1 day')`)
				if triggers {
					standardapp.InstallTriggers(t, standardapp.Server.DSN(name))
				}
				app := caddytest.NewApp(t)
				base := caddytest.Start(t, caddytest.Site("stale_session {", "	poll 50ms", "	cache {", "		ttl 1h", "	}", "}", app.Proxy()))
				ada := openTab(t, app, base, 0)
				if status := ada.open(); status != http.StatusOK {
					t.Fatalf("before: status %d", status)
				}
				first := ada.cookie
				ada.poll() // just before the reset
				if ada.cookie == first {
					t.Fatal("the session was not renewed")
				}
				standardapp.Execute(t, name, reset...)
				eventually.Holds(t, "the tab is signed out", func() bool { return ada.open() == http.StatusUnauthorized })
				eventually.Holds(t, "an earlier cookie is refused", func() bool { return caddytest.Ask(t, base, first) == http.StatusUnauthorized })
				bob := openTab(t, app, base, 0)
				for range 5 {
					bob.poll()
					if status := bob.open(); status != http.StatusOK {
						t.Errorf("who has the id now signs in: status %d", status)
					}
				}
			})
		}
	}
}

// measuredApp returns how far the app's clock is ahead by the status, which must
// know it.
func measuredApp(t *testing.T, o *caddytest.Operator) time.Duration {
	t.Helper()
	var status struct {
		Databases []struct {
			Clocks struct{ App, Database *float64 }
		}
	}
	o.Do("GET", "status", nil, &status)
	if len(status.Databases) != 1 || status.Databases[0].Clocks.App == nil || status.Databases[0].Clocks.Database == nil {
		t.Fatalf("the clocks are not measured: %+v", status)
	}
	return time.Duration(*status.Databases[0].Clocks.App * float64(time.Second))
}

// TestNoChangeOfATableEndsASessionOfItsUsers signs up at apps with clocks that
// differ, and changes the users table in ways that replace its file.
func TestNoChangeOfATableEndsASessionOfItsUsers(t *testing.T) {
	app := caddytest.NewApp(t)
	for _, ahead := range []time.Duration{0, -20 * time.Second, 20 * time.Second, -50 * time.Second} {
		t.Run("the app's clock is ahead by "+ahead.String(), func(t *testing.T) {
			name := standardapp.NewDatabase(t)
			standardapp.Execute(t, name, `drop table "User"`, people)
			o := caddytest.NewOperator(t)
			base := caddytest.Start(t, o.Config("stale_session {", "	poll 20ms", "}", app.Proxy()))
			noticed := 0
			changed := func(commands ...string) {
				t.Helper()
				standardapp.Execute(t, name, commands...)
				noticed++
				eventually.Holds(t, "it is noticed", func() bool {
					return strings.Contains(o.Do("GET", "status", nil, nil), fmt.Sprintf(`"resets":%d,`, noticed))
				})
			}
			caddytest.Ask(t, base, standardapp.Session(t, "7")) // begins to watch
			eventually.Holds(t, "it is watched", func() bool { return strings.Contains(o.Do("GET", "status", nil, nil), `"watched":true`) })
			standardapp.Execute(t, name, `insert into "User" (email) values ('ada@b.c')`) // she signs up
			ada := openTab(t, app, base, ahead)
			check := func(after string) {
				t.Helper()
				if status := ada.open(); status != http.StatusOK {
					t.Errorf("%s: status %d", after, status)
				}
			}
			check("a sign-up")
			first := *ada
			changed(`vacuum full "User"`)
			check("VACUUM FULL")
			changed(`alter table "User" alter column id type bigint`)
			check("another type of the id")
			changed(`alter table "User" alter column "createdAt" type timestamptz(0)`)
			check("another precision of the time")
			changed(`begin`, `create table copied (like "User" including all)`, `insert into copied select * from "User"`, `drop table "User" cascade`, `alter table copied rename to "User"`, `commit`)
			check("a copy")
			for range 9 {
				ada.poll()
				check("a poll")
				if status := first.open(); status != http.StatusOK {
					t.Errorf("the first cookie, after a poll: status %d", status)
				}
			}
			if off := measuredApp(t, o) - ahead; off.Abs() > 2*time.Second {
				t.Errorf("the app's clock is measured %s too far ahead", off)
			}
			changed(`vacuum full "User"`)
			check("VACUUM FULL, once the clocks are measured")
		})
	}
}
