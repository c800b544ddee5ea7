package postgres

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

// installedOn returns how many triggers a table has.
func installedOn(t testing.TB, name, table string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err == nil {
		defer conn.Close(context.Background())
		err = conn.QueryRow(t.Context(), `select count(*) from pg_trigger where tgrelid = to_regclass($1) and tgname like 'stale_session%' and tgenabled = 'A'`, table).Scan(&n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTriggersOfAnEarlierVersionAreHeardNamedAndReplaced(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id int primary key, banned boolean); insert into users select g from generate_series(1, 3) g; create table people (like users including all)`)
	before, err := os.ReadFile("testdata/triggers_before.sql")
	if err != nil {
		t.Fatal(err)
	}
	run(t, name, string(before), strings.ReplaceAll(string(before), `"users"`, `"people"`))
	d, lines := open(t, server.DSN(name), Config{Users: Users{Table: "users"}})
	watched(t, d, accounts.Config{Poll: quickly})
	eventually.Holds(t, "they are heard", func() bool { return d.Describe().Notified })
	eventually.Holds(t, "they are named", func() bool { return d.Describe().Advice == adviceOutdated })
	if n := lines.FilterMessageSnippet("of an earlier version").Len(); n != 1 {
		t.Errorf("%d lines name them", n)
	}
	finds(t, d.Diagnose(t.Context()), directories.Bad, "of an earlier version", "install` again")
	if err := server.Exec(t.Context(), name, `alter table users drop column banned`); err == nil {
		t.Error("they are not those that refused a migration")
	}
	install(t, d)
	run(t, name, `alter table users drop column banned`, `alter table people drop column banned`) // those of other tables are gone too
	if users, people := installedOn(t, name, "users"), installedOn(t, name, "people"); users != 3 || people != 0 {
		t.Errorf("%d and %d triggers", users, people)
	}
	eventually.Holds(t, "nothing is to be done", func() bool { return d.Describe().Advice == "" })
	// Those who hear the earlier version hear this one.
	if got := notified(t, name, `delete from users where id = 1`); len(got) != 1 || got[0] != "1" {
		t.Errorf("notified %q", got)
	}
}

func TestInstallingAgainNeedsNoLock(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	d, _ := open(t, server.DSN(name), Config{})
	install(t, d)
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `begin; insert into users values ('in progress')`); err != nil {
		t.Fatal(err)
	}
	install(t, d)
}

func TestTheDoctorNamesColumnsThatTheTriggersDoNotLookAt(t *testing.T) {
	t.Parallel()
	for what, migration := range map[string]string{
		"a column more":    `alter table users add "deletedAt" timestamptz`,
		"a column less":    `alter table users drop banned`,
		"a renamed column": `alter table users rename id to uid`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := database(t, `create table users (id int primary key, banned boolean)`)
			first, _ := open(t, server.DSN(name), Config{Users: Users{Table: "users", Disabled: []string{"banned"}}})
			install(t, first)
			finds(t, first.Diagnose(t.Context()), directories.Good, "change notifications work")
			run(t, name, migration)
			users := Users{Table: "users"}
			if what == "a renamed column" {
				users.ID = "uid"
			}
			d, _ := open(t, server.DSN(name), Config{Users: users})
			finds(t, d.Diagnose(t.Context()), directories.Note, "do not look at the columns", "install` again")
			install(t, d)
			finds(t, d.Diagnose(t.Context()), directories.Good, "change notifications work")
		})
	}
}

// TestTheTriggersComeBackAfterAReset has the role of Caddy put them back, which has no
// right to the table but to read it.
func TestTheTriggersComeBackAfterAReset(t *testing.T) {
	t.Parallel()
	const table = `create table "User" (id text primary key, "deletedAt" timestamptz); insert into "User" values ('stays')`
	name := database(t, `revoke all on schema public from public`)
	_, asOwner := role(t, name, `grant create on database `+name+` to %s`, `alter schema public owner to %s`)
	reader, asReader := role(t, name)
	_, asOther := role(t, name, `grant create on database `+name+` to %s`)
	runAs(t, asOwner, table)
	owner, _ := open(t, asOwner, Config{})
	sql, err := owner.InstallSQL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	restore, err := owner.RestoreSQL(t.Context(), []string{reader})
	if err != nil {
		t.Fatal(err)
	}
	granted, err := owner.GrantSQL(t.Context(), []string{reader}, true)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // twice does no harm
		if err := owner.Run(t.Context(), sql+restore+granted.SQL); err != nil {
			t.Fatal(err)
		}
	}
	d, lines := open(t, asReader, Config{})
	watched(t, d, accounts.Config{Poll: quickly})
	eventually.Holds(t, "the triggers are heard", func() bool { return d.Describe().Notified })
	for what, reset := range map[string]string{
		"the table":  `drop table "User"; ` + table,
		"the schema": `drop schema public cascade; create schema public; ` + table,
	} {
		runAs(t, asOwner, reset)
		eventually.Holds(t, what+" has its triggers again", func() bool { return installedOn(t, name, `public."User"`) == 3 })
		if got := notified(t, name, `delete from "User" where id = 'stays'`); len(got) != 1 || got[0] != "stays" {
			t.Errorf("%s: notified %q", what, got)
		}
	}
	if lines.FilterMessageSnippet("installed again").Len() < 2 {
		t.Errorf("logged %v", lines.All())
	}
	// On a table of somebody else, the function could only keep writers waiting.
	restorable := func() (sql string) {
		t.Helper()
		if err := d.Read(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
			var epoch, state, catalog string
			return conn.QueryRow(ctx, epochSQL, `"public"."User"`, "").Scan(&epoch, &state, &sql, &catalog)
		}); err != nil {
			t.Fatal(err)
		}
		return sql
	}
	run(t, name, `begin; drop table "User"; create table "User" (id text primary key, "deletedAt" timestamptz); grant select on "User" to `+reader+`; commit`)
	if sql := restorable(); sql != "" {
		t.Errorf("for a table of somebody else, %s is called", sql)
	}
	run(t, name, `drop table "User"`)
	runAs(t, asOwner, table)
	eventually.Holds(t, "that of the owner has its triggers again", func() bool { return installedOn(t, name, `public."User"`) == 3 })
	// What the operator has disabled stays disabled.
	runAs(t, asOwner, `alter table "User" disable trigger all`)
	eventually.Holds(t, "the triggers are missed", func() bool { return !d.Describe().Notified })
	if n := installedOn(t, name, `public."User"`); n != 0 {
		t.Errorf("%d triggers are enabled", n)
	}
	// Nobody else may call the function, and it does nothing with the rights of Caddy.
	const call = `select stale_session."restore public.User"()`
	if may(t, asOther, call) {
		t.Error("everybody may call the function")
	}
	err = d.With(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `create trigger mine before delete on "User" for each row execute function suppress_redundant_updates_trigger()`)
		return err
	})
	if sqlState(err) != "42501" {
		t.Errorf("the role may create other triggers: %v", err)
	}
}

// TestAForeignFunctionIsNotCalled has somebody who may create schemas pretend that the
// triggers can be created again: the function would run with the rights of Caddy.
func TestAForeignFunctionIsNotCalled(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser, `create table called ()`)
	_, asOther := role(t, name, `grant create on database `+name+` to %s`)
	runAs(t, asOther, `create schema stale_session; grant usage on schema stale_session to public; create function stale_session."restore public.users"() returns void language sql as 'drop table public.called'`)
	d, _ := open(t, server.DSN(name), Config{})
	watched(t, d, accounts.Config{Poll: quickly})
	eventually.Holds(t, "the triggers are missed", func() bool { return listenerState(d.state.Load()) == noTriggers })
	if d.restoring.Load() {
		t.Error("it is called")
	}
	run(t, name, `drop table called`)
}

// TestAForeignFunctionIsNotRun has somebody who may create schemas make the function
// that the triggers call: it would run with the rights of the app.
func TestAForeignFunctionIsNotRun(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser, `create table called ()`)
	other, asOther := role(t, name, `grant create on database `+name+` to %s`)
	const plant = `create function stale_session."changed public.users"() returns trigger language plpgsql as 'begin drop table public.called; return null; end'`
	runAs(t, asOther, `create schema stale_session; `+plant)
	d, _ := open(t, server.DSN(name), Config{})
	install(t, d)
	run(t, name, `do $$ begin assert (select pg_get_userbyid(proowner) from pg_proc where proname = 'changed public.users') <> '`+other+`', 'somebody else owns the function'; end $$`)
	restore, err := d.RestoreSQL(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, name, restore)
	runAs(t, asOther, `drop function stale_session."changed public.users"() cascade; `+plant)
	if err := server.Exec(t.Context(), name, `select stale_session."restore public.users"()`); sqlState(err) != "42501" {
		t.Errorf("triggers are put back that call it: %v", err)
	}
	run(t, name, `delete from users`, `drop table called`)
}
