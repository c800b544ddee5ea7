package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

const (
	lost     = "the users table was recreated and the role lost its rights: run "
	survives = ", as its owner; to survive resets, `caddy stale-session install --grant %s --survive-reset`"
)

// runAs runs SQL commands as the role of an address.
func runAs(t testing.TB, dsn string, commands ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, command := range commands {
		if _, err := conn.Exec(t.Context(), command); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
}

// logged reports whether the error of a failed lookup is in the log.
func logged(lines []observer.LoggedEntry, text string) bool {
	return slices.ContainsFunc(lines, func(line observer.LoggedEntry) bool {
		return line.Level == zap.ErrorLevel && strings.Contains(fmt.Sprint(line.ContextMap()["error"]), text)
	})
}

// Each does what Prisma does: it drops the schema and creates it again, or without
// the rights for that the tables one by one, and makes the tables.
func TestAResetThatTakesTheGrants(t *testing.T) {
	t.Parallel()
	const table = `create table "User" (id text primary key, email text, "deletedAt" timestamptz, password text); insert into "User" (id) values ('stays'), ('goes')`
	const again = `create table "User" (id text primary key, email text, "deletedAt" timestamptz, password text); insert into "User" (id) values ('stays')`
	const schema, tables = `drop schema "public" cascade; create schema "public"`, `drop table "public"."User" cascade`
	const recipe = `alter default privileges for role %owner grant usage on schemas to %s; alter default privileges for role %owner grant select on tables to %s`
	const usage = `GRANT USAGE ON SCHEMA public TO %s`
	for name, c := range map[string]struct {
		grants string // besides usage of the schema; %s is the role
		config Config
		reset  string
		says   string // empty if the grants survive
	}{
		"the schema":                                   {grants: `grant select on "User" to %s`, reset: schema, says: lost + usage + `; GRANT SELECT ON public."User" TO %s` + survives},
		"the table":                                    {grants: `grant select on "User" to %s`, reset: tables, says: lost + `GRANT SELECT ON public."User" TO %s` + survives},
		"the schema, with the recipe":                  {grants: `grant select on "User" to %s; ` + recipe, reset: schema},
		"the table, with the recipe":                   {grants: `grant select on "User" to %s; ` + recipe, reset: tables},
		"the schema, with the recipe in the schema":    {grants: `grant select on "User" to %s; ` + strings.ReplaceAll(recipe, "%owner grant select", "%owner in schema public grant select"), reset: schema, says: lost + `GRANT SELECT ON public."User" TO %s` + survives},
		"the schema, with the tables of the recipe":    {grants: `grant select on "User" to %s; ` + strings.Split(recipe, ";")[1], reset: schema, says: lost + usage + survives},
		"the schema, with rights to columns":           {grants: `grant select (id, email, "deletedAt") on "User" to %s`, reset: schema, says: lost + usage + `; GRANT SELECT (id, "deletedAt") ON public."User" TO %s` + survives},
		"the table, with rights to columns":            {grants: `grant select (id, email, "deletedAt") on "User" to %s`, config: Config{Users: Users{Match: map[string]string{"email": "email"}}}, reset: tables, says: lost + `GRANT SELECT (id, email, "deletedAt") ON public."User" TO %s` + survives},
		"the schema, whose table is named":             {grants: `grant select on "User" to %s`, config: Config{Users: Users{Table: "public.User"}}, reset: schema, says: lost + usage + `; GRANT SELECT ON public."User" TO %s` + survives},
		"the table, of a query":                        {grants: `grant select on "User" to %s`, config: Config{Query: `select id from public."User" where id = any($1::text[])`}, reset: tables, says: "the role may not read what `query` reads: run " + `GRANT SELECT ON public."User" TO %s` + survives},
		"the schema, of a query":                       {grants: `grant select on "User" to %s`, config: Config{Query: `select id from "User" where id = any($1::text[])`}, reset: schema, says: "the role may not read what `query` reads: run " + usage + `; GRANT SELECT ON public."User" TO %s` + survives},
		"nothing, but the rights are taken":            {grants: `grant select on "User" to %s`, reset: `revoke select on "User" from %s; delete from "User" where id = 'goes'`, says: "the role lost its rights to the users table: run " + `GRANT SELECT ON public."User" TO %s` + survives},
		"the schema, before another one in the path":   {grants: `grant select on "User" to %s; create schema other; create table other."User" (id text primary key); grant usage on schema other to %s; grant select on other."User" to %s; alter role %s set search_path = public, other`, reset: schema, says: lost + usage + `; GRANT SELECT ON public."User" TO %s` + survives},
		"the schema, and there is one of another name": {grants: `grant select on "User" to %s; create schema next_auth; create table next_auth.users (id int, name text); grant usage on schema next_auth to %s`, reset: schema, says: lost + usage + `; GRANT SELECT ON public."User" TO %s` + survives, config: Config{Users: Users{Table: "User"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, `revoke all on schema public from public`)
			owner, asOwner := role(t, db, `grant create on database `+db+` to %s`, `alter schema public owner to %s`)
			runAs(t, asOwner, table)
			reader, dsn := role(t, db)
			sql := func(text string) string {
				return strings.NewReplacer("%s", reader, "%owner", owner).Replace(text)
			}
			run(t, db, sql(`grant usage on schema public to %s; `+c.grants))
			d, lines := open(t, dsn, c.config)
			e := watched(t, d, accounts.Config{Poll: quickly, TTL: time.Nanosecond, AbsentTTL: time.Nanosecond}) // nothing is cached
			visit(t, e, visitor{subject: "stays", want: "live"}, visitor{subject: "goes", want: "live"}, visitor{subject: "gone", want: "user_not_found"})
			if strings.HasPrefix(c.reset, "revoke") {
				run(t, db, sql(c.reset))
			} else {
				runAs(t, asOwner, c.reset, again)
			}
			ends := func(subject string) func() bool {
				return func() bool {
					got, _ := judge(e, visitor{subject: subject, age: ago})
					return got == "user_not_found"
				}
			}
			if c.says == "" {
				eventually.Holds(t, "the session of the user who is gone ends", ends("goes"))
				visit(t, e, visitor{subject: "stays", want: "live"})
				return
			}
			// Without a request, where a statement is not the operator's own.
			if c.config.Query == "" && !strings.HasPrefix(c.reset, "revoke") {
				eventually.Holds(t, "the log says what to run", func() bool { return logged(lines.All(), sql(c.says)) })
			}
			// Whoever was known is the last known one, for ten minutes.
			for subject, want := range map[string]string{"stays": "live", "goes": "live", "nobody": "unknown"} {
				got, err := judge(e, visitor{subject: subject, age: ago})
				if got != want || want == "unknown" && (failureOf(t, got, err).Class != directories.Rights || !strings.Contains(err.Error(), sql(c.says))) {
					t.Errorf("a session of %s is %s (%v), want %s", subject, got, err, want)
				}
			}
			eventually.Holds(t, "the state says what to run", func() bool { return strings.Contains(e.Stats().Failure, sql(c.says)) })
			if !logged(lines.All(), sql(c.says)) {
				t.Errorf("logged %v", lines.All())
			}
			_, run, _ := strings.Cut(sql(c.says), "run ")
			fresh, _ := open(t, dsn, c.config) // which does not know what was before
			for _, doctor := range []*Directory{d, fresh} {
				if found := doctor.Diagnose(t.Context()); len(found) < 2 || found[1].Text != "the role lacks rights" || !strings.Contains(found[1].Remedy, "run GRANT ") {
					t.Errorf("the doctor says %+v", found)
				}
			}
			// What it says is enough.
			grants, _, _ := strings.Cut(run, ", as its owner")
			runAs(t, asOwner, grants)
			eventually.Holds(t, "the session of the user who is gone ends", ends("goes"))
			visit(t, e, visitor{subject: "stays", want: "live"})
			eventually.Holds(t, "the state is good again", func() bool { return e.Stats().Failure == "" })
		})
	}
}

// A name must not lead to the next schema because the role may not use the first,
// where the app finds its table.
func TestATableInASchemaThatTheRoleMayNotUseIsNotPassedOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema string
		params string // of the address
		users  Users
		says   string // empty if the app has the same table in view
	}{
		"first in the path": {
			schema: `create schema app; create table app.users (id text primary key); create schema other; create table other.users (id text primary key)`,
			params: "&search_path=app,other", says: "run GRANT USAGE ON SCHEMA app TO %s; GRANT SELECT ON app.users TO %s, as its owner",
		},
		"first in the path, and named": {
			schema: `create schema app; create table app.users (id text primary key); create schema other; create table other.users (id text primary key)`,
			params: "&search_path=app,other", users: Users{Table: "users"}, says: "run GRANT USAGE ON SCHEMA app TO %s; GRANT SELECT ON app.users TO %s, as its owner",
		},
		"first in the path, with another well-known name": {
			schema: `create schema app; create table app."User" (id text primary key); create schema other; create table other.users (id text primary key)`,
			params: "&search_path=app,other", says: `GRANT SELECT ON app."User" TO %s`,
		},
		"first in the path of the role": {
			schema: `create schema app; create table app.users (id text primary key); create schema other; create table other.users (id text primary key); alter role %s set search_path = app, other`,
			says:   "run GRANT USAGE ON SCHEMA app TO %s; GRANT SELECT ON app.users TO %s, as its owner",
		},
		"later in the path": {
			schema: `create schema app; create table app.users (id text primary key); create schema other; create table other.users (id text primary key)`,
			params: "&search_path=other,app",
		},
		"another schema is named": {
			schema: `create schema app; create table app.users (id text primary key); create schema other; create table other.users (id text primary key)`,
			params: "&search_path=app", users: Users{Table: "other.users"},
		},
		"the only one": {
			schema: `create schema app; create table app.users (id text primary key); create schema other`,
			says:   "run GRANT USAGE ON SCHEMA app TO %s; GRANT SELECT ON app.users TO %s, as its owner",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t)
			reader, dsn := role(t, db, c.schema, `grant usage on schema other to %s`, `grant select on all tables in schema other to %s`)
			d, _ := open(t, dsn+c.params, Config{Users: c.users})
			e := engine(t, d, accounts.Config{Poll: -1})
			if c.says == "" {
				visit(t, e, visitor{subject: "gone", want: "user_not_found"})
				return
			}
			unproven(t, e, "live", strings.ReplaceAll(c.says, "%s", reader))
		})
	}
}

// It takes no rights to a table to see that it was recreated: not even if the
// catalog has to be read again, because that was a minute ago.
func TestAResetThatTakesTheGrantsIsAnEpoch(t *testing.T) {
	t.Parallel()
	db := database(t, `create schema app; create table app.users (id text primary key)`)
	reader, dsn := role(t, db, `grant usage on schema app to %s`, `grant select on app.users to %s`)
	d, _ := open(t, dsn, Config{Users: Users{Table: "app.users"}})
	opened, err := d.Watch(t.Context(), func(...string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	gate := opened.(directories.Gate)
	before, err := gate.Read(t.Context())
	if err != nil || before.Epoch == "" || before.Failure != nil {
		t.Fatalf("%+v, %v", before, err)
	}
	run(t, db, `drop schema app cascade; create schema app; create table app.users (id text primary key)`)
	d.listen.statement.Store(nil)
	after, err := gate.Read(t.Context())
	if err != nil || after.Epoch == "" || after.Epoch == before.Epoch {
		t.Errorf("the epoch %q becomes %q, %v", before.Epoch, after.Epoch, err)
	}
	if says := lost + "GRANT USAGE ON SCHEMA app TO " + reader; after.Failure == nil || !strings.Contains(after.Failure.Error(), says) {
		t.Errorf("the failure is %v, want %s", after.Failure, says)
	}
	run(t, db, `grant usage on schema app to `+reader, `grant select on app.users to `+reader)
	granted, err := gate.Read(t.Context())
	if err != nil || granted.Epoch != after.Epoch || granted.Failure != nil {
		t.Errorf("with rights: %+v, %v", granted, err)
	}
}
