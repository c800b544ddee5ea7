package changes

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// ids is a kind of users table.
type ids struct {
	create string
	// old and again are the ids of the first user before a reset, and of
	// another person's first one after it.
	old, again string
	// insert makes a user with the next id, or the given one.
	insert string
}

var kindsOfIDs = map[string]ids{
	"serial": {
		`create table "User" (id serial primary key, "createdAt" timestamptz not null default now())`, "1", "1",
		`insert into "User" ("createdAt") values (%[2]s)`,
	},
	"uuid": {
		`create table "User" (id uuid primary key, "createdAt" timestamptz not null default now())`,
		"7d444840-9dc0-11d1-b245-5ffdce74fad2", "0b6a2b7e-9dc0-11d1-b245-5ffdce74fad2",
		`insert into "User" values ('%[1]s', %[2]s)`,
	},
	"text": {
		`create table "User" (id text primary key, "createdAt" timestamptz not null default now())`, "clx0ada", "clx0bob",
		`insert into "User" values ('%[1]s', %[2]s)`,
	},
}

// first makes the first user, who was created an hour ago.
func (k ids) first() string { return fmt.Sprintf(k.insert, k.old, "now() - interval '1 hour'") }

// other makes another person's account.
func (k ids) other() string { return fmt.Sprintf(k.insert, k.again, "now()") }

// waysToReset are the ways in which the first user is lost. The last commands
// of each have made another person's account.
var waysToReset = map[string]func(t *testing.T, pg *pgtest.Server, k ids){
	"DELETE": func(t *testing.T, pg *pgtest.Server, k ids) {
		runOn(t, pg, `delete from "User"`, strings.Replace(k.other(), "(\"createdAt\") values (", "values (1, ", 1))
	},
	"TRUNCATE RESTART IDENTITY CASCADE": func(t *testing.T, pg *pgtest.Server, k ids) {
		runOn(t, pg, `create table posts (author `+strings.Replace(strings.Fields(k.create)[4], "serial", "int", 1)+` references "User")`,
			`truncate "User" restart identity cascade`, k.other())
	},
	"DROP TABLE": func(t *testing.T, pg *pgtest.Server, k ids) {
		runOn(t, pg, `drop table "User" cascade`, k.create, k.other())
	},
	"DROP SCHEMA": func(t *testing.T, pg *pgtest.Server, k ids) {
		runOn(t, pg, `drop schema public cascade`, `create schema public`, k.create, k.other())
	},
	"DROP DATABASE": func(t *testing.T, pg *pgtest.Server, k ids) {
		execute(t, pg, "postgres", `drop database app with (force)`, `create database app`)
		runOn(t, pg, k.create, k.other())
	},
	"pg_restore --clean": func(t *testing.T, pg *pgtest.Server, k ids) {
		execute(t, pg, "postgres", `create database dumped`)
		execute(t, pg, "dumped", k.create, k.other())
		file := pg.File("dump")
		if err := pg.Run(t.Context(), "pg_dump", "dumped", "--format=custom", "--file="+file); err != nil {
			t.Fatal(err)
		}
		if err := pg.Run(t.Context(), "pg_restore", "app", "--clean", "--if-exists", file); err != nil {
			t.Fatal(err)
		}
	},
	"another server on the same port": func(t *testing.T, pg *pgtest.Server, k ids) {
		if err := pg.Replace(t.Context()); err != nil {
			t.Fatal(err)
		}
		execute(t, pg, "postgres", `create database app`)
		runOn(t, pg, k.create, k.other())
	},
}

func runOn(t testing.TB, pg *pgtest.Server, commands ...string) {
	t.Helper()
	execute(t, pg, "app", commands...)
}

// TestEveryWayToResetADatabaseIsNoticed has accounts cached for an hour, so
// that only what is noticed can end a session.
func TestEveryWayToResetADatabaseIsNoticed(t *testing.T) {
	app := caddytest.NewApp(t)
	pg := pgtest.StartFor(t)
	for way, reset := range waysToReset {
		for kind, k := range kindsOfIDs {
			for _, triggers := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s ids, triggers %t", way, kind, triggers), func(t *testing.T) {
					execute(t, pg, "postgres", `drop database if exists app with (force)`, `drop database if exists dumped`, `create database app`)
					runOn(t, pg, k.create, k.first())
					if triggers {
						standardapp.InstallTriggers(t, pg.DSN("app"))
					}
					standardapp.Environment(t, pg.DSN("app"))
					base := caddytest.Start(t, caddytest.Site("stale_session {",
						"	users {", "		created_at createdAt", "	}", "	cache {", "		ttl 1h", "	}", "	poll 50ms", "}", app.Proxy()))
					old := standardapp.TokenOf(t, k.old, 10*time.Minute)
					if status := caddytest.Ask(t, base, old); status != http.StatusOK {
						t.Fatalf("before: status %d", status)
					}
					reset(t, pg, k)
					eventually.Holds(t, "the old session is refused", func() bool { return caddytest.Ask(t, base, old) == http.StatusUnauthorized })
					if status := caddytest.Ask(t, base, standardapp.TokenOf(t, k.again, 0)); status != http.StatusOK {
						t.Errorf("a new session: status %d", status)
					}
				})
			}
		}
	}
}

func TestAFailoverIsNoticed(t *testing.T) {
	primary := pgtest.StartFor(t, "wal_level=replica", "max_wal_senders=4")
	if err := primary.Exec(t.Context(), "postgres", `create table "User" (id text primary key)`, `insert into "User" values ('stays'), ('goes')`); err != nil {
		t.Fatal(err)
	}
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Close() })
	standardapp.Environment(t, "postgres://postgres@"+primary.Address()+","+standby.Address()+"/postgres?sslmode=disable&target_session_attrs=primary")
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	cache {", "		ttl 1h", "	}", "	poll 50ms", "}", app.Proxy()))
	stays, goes := standardapp.Session(t, "stays"), standardapp.Session(t, "goes")
	for _, cookie := range []string{stays, goes} {
		if status := caddytest.Ask(t, base, cookie); status != http.StatusOK {
			t.Fatalf("before: status %d", status)
		}
	}
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if status := caddytest.Ask(t, base, stays); status != http.StatusOK {
			t.Errorf("without a primary: status %d", status)
		}
	}
	if err := standby.Exec(t.Context(), "postgres", `select pg_promote()`, `delete from "User" where id = 'goes'`); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the deleted user's session is refused", func() bool {
		if status := caddytest.Ask(t, base, stays); status != http.StatusOK {
			t.Fatalf("a user who is there: status %d", status)
		}
		return caddytest.Ask(t, base, goes) == http.StatusUnauthorized
	})
}
