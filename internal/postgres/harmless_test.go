package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// usersOfApp is a users table with all that the triggers look at.
const usersOfApp = `create table users (id int primary key, banned boolean default false, "deletedAt" timestamptz, seen int, extra json, avatar text);
	insert into users (id, seen) select g, 0 from generate_series(1, 10) g`

// statements are what an app does to its users table, and %s is a role that may do so.
// None of them may end in another way because of the triggers.
var statements = []struct {
	name   string
	create string // default: usersOfApp
	table  string // default: users
	id     string // default: id
	app    []string
	since  int // a version of Postgres; 0 for any
	after  string
}{
	{name: "insert, update, delete", app: []string{`insert into users (id) values (11)`, `update users set banned = true`, `update users set seen = 1`, `delete from users where id < 5 returning id`, `delete from users where id = 0`}},
	{name: "upsert", app: []string{`insert into users (id) values (1), (11) on conflict (id) do update set banned = true`, `insert into users (id) values (1) on conflict do nothing`}},
	{name: "merge", since: 15, app: []string{`merge into users u using (values (1), (2), (12)) n (id) on u.id = n.id when matched and u.id = 1 then delete when matched then update set banned = true when not matched then insert (id) values (n.id)`}},
	{name: "copy", app: []string{`copy users (id) from program 'seq 11 20'`, `copy (delete from users where id > 15 returning id) to program 'cat >&2'`, `copy users to program 'cat >&2'`}},
	{name: "truncate", app: []string{`truncate users`, `truncate users restart identity cascade`}},
	{name: "a cascade", create: `create table teams (id int primary key); create table users (id int primary key, team int references teams on delete cascade on update cascade); insert into teams values (1), (2); insert into users values (1, 1), (2, 2)`, app: []string{`delete from teams where id = 1`, `update teams set id = 3`, `truncate teams cascade`}},
	{name: "a restriction", create: usersOfApp + `; create table posts (author int references users); insert into posts values (1)`, app: []string{`delete from users`, `truncate users`, `delete from users where id > 1`}},
	{
		name: "partitions", create: `create table users (id int primary key, banned boolean) partition by range (id); create table low partition of users for values from (0) to (100); create table high partition of users for values from (100) to (200);
			insert into users select g, false from generate_series(1, 150) g`,
		app: []string{`delete from users where id = 1`, `delete from low where id = 2`, `update users set id = 160 where id = 3`, `update low set banned = true`, `truncate low`, `create table more (like users including all); alter table users attach partition more for values from (200) to (300); insert into users values (250); update users set banned = true; delete from users where id = 250`, `alter table users detach partition high`, `delete from high`, `alter table users attach partition high for values from (100) to (200)`, `truncate users`, `drop table more`},
	},
	{name: "inheritance", create: usersOfApp + `; create table admins (level int) inherits (users); insert into admins (id) values (20), (21)`, app: []string{`delete from users where id = 20`, `update users set banned = true`, `delete from only users`, `truncate users`, `alter table admins no inherit users`}},
	{name: "a replicating role", app: []string{`set session_replication_role = replica`, `update users set banned = true`, `delete from users where id = 1`, `truncate users`}},
	{name: "a transaction", app: []string{`begin; delete from users where id = 1; savepoint a; delete from users; rollback to a; update users set banned = true; commit`, `begin; truncate users; rollback`, `begin isolation level serializable; update users set banned = true; delete from users where id = 2; commit`, `begin isolation level repeatable read; delete from users where id = 3; commit`, `begin read only; delete from users`, `rollback`}},
	{name: "a migration in one transaction", app: []string{`begin; update users set banned = true; delete from users where id = 1; alter table users alter column id type bigint; update users set banned = false; alter table users drop column banned; delete from users where id = 2; alter table users rename to people; delete from people where id = 3; commit`}, after: "people"},
	{name: "deferred constraints", create: usersOfApp + `; create table posts (author int references users deferrable initially deferred); insert into posts values (1)`, app: []string{`begin; delete from users where id = 1; insert into users (id) values (1); commit`, `begin; delete from users where id = 1; commit`, `begin; set constraints all immediate; delete from users where id = 1; commit`}},
	{name: "a cursor", app: []string{`begin; declare c cursor for select id from users for update; fetch c; update users set banned = true where current of c; delete from users where current of c; commit`}},
	{name: "an app that notifies", app: []string{`listen other`, `begin; notify other; delete from users where id = 1; notify stale_session, 'nonsense'; commit`}},
	{name: "odd JSON", app: []string{`update users set extra = '{"a":"\u0000"}'`, `update users set banned = true`, `delete from users`}},
	{name: "huge rows", app: []string{`update users set avatar = (select string_agg(md5(g::text), '') from generate_series(1, 500000) g) where id = 1`, `update users set banned = true where id = 1`, `delete from users where id = 1`}},
	{name: "more rows than fit in memory", app: []string{`insert into users (id, avatar) select g, repeat('x', 1500) from generate_series(11, 5000) g`, `set work_mem = '64kB'`, `set temp_file_limit = 0`, `update users set banned = not banned`, `delete from users`}},
	{
		name: "odd names", table: `a "table" $body$ of 'users' \`, id: `the "id" $body$ '\`,
		create: `create table "a ""table"" $body$ of 'users' \" ("the ""id"" $body$ '\" int primary key, banned boolean); insert into "a ""table"" $body$ of 'users' \" values (1), (2)`,
		app:    []string{`update "a ""table"" $body$ of 'users' \" set banned = true`, `delete from "a ""table"" $body$ of 'users' \" where "the ""id"" $body$ '\" = 1`, `truncate "a ""table"" $body$ of 'users' \"`},
	},
	{
		name: "a long name", table: "a table of users whose name is as long as a name can ever be 63", create: `create table "a table of users whose name is as long as a name can ever be 63" (id int primary key, banned boolean, "deletedAt" date); insert into "a table of users whose name is as long as a name can ever be 63" values (1), (2)`,
		app: []string{`update "a table of users whose name is as long as a name can ever be 63" set banned = true`, `delete from "a table of users whose name is as long as a name can ever be 63" where id = 1`, `truncate "a table of users whose name is as long as a name can ever be 63"`},
	},
	{name: "types without equality", create: `create table users (id point, banned xml); insert into users values ('(1,2)', '<a/>')`, app: []string{`update users set banned = '<b/>'`, `update users set id = '(3,4)'`, `delete from users`}},
	{name: "generated columns", create: `create table users (id int primary key, banned boolean generated always as (id > 5) stored); insert into users select g from generate_series(1, 10) g`, app: []string{`update users set id = id + 10`, `delete from users where banned`}},
	{name: "a role without rights", app: []string{`set role %s`, `update users set banned = true where id = 1`, `delete from users where id = 1`, `truncate users`, `insert into users (id) values (1)`, `select stale_session.nothing()`}},
	{name: "row-level security", create: usersOfApp + `; alter table users enable row level security; create policy few on users using (id < 5)`, app: []string{`set role %s`, `update users set banned = true`, `delete from users`}},
	{name: "timeouts", app: []string{`set statement_timeout = '1min'; set lock_timeout = '1ms'; set idle_in_transaction_session_timeout = '1min'`, `update users set banned = true`, `delete from users`}},
	{
		name: "a trap in the search path", create: usersOfApp + `; create function current_setting(text) returns text language plpgsql as 'begin raise ''a trap''; end'; create function pg_notify(text, text) returns void language plpgsql as 'begin raise ''a trap''; end';
			create function trap(text, text) returns boolean language plpgsql as 'begin raise ''a trap''; end'; create operator = (leftarg = text, rightarg = text, function = trap); create function pg_stat_get_xact_tuples_deleted(oid) returns bigint language plpgsql as 'begin raise ''a trap''; end'`,
		app: []string{`select set_config('search_path', quote_ident(current_schema) || ', pg_catalog', false)`, `update users set banned = true`, `delete from users where id = 1`, `truncate users`},
	},
	{
		name: "a function with the rights of its owner", create: usersOfApp + `; create function sign_off(int) returns void security definer language sql as 'delete from users where id = $1'; create function ban(int) returns void security definer set search_path from current language sql as 'update users set banned = true where id = $1'`,
		app: []string{`set role %s`, `select sign_off(1)`, `select ban(2)`},
	},
	{
		name: "triggers of the app", create: usersOfApp + `; create function refuse() returns trigger language plpgsql as 'begin if old.id = 1 then raise ''no''; elsif old.id = 2 then return null; end if; return coalesce(new, old); end'; create trigger refuse before update or delete on users for each row execute function refuse();
			create function log() returns trigger language plpgsql as 'begin update users set seen = seen + 1 where id = 10; return null; end'; create trigger log after delete on users for each statement execute function log()`,
		app: []string{`delete from users where id = 1`, `delete from users where id in (2, 3)`, `update users set banned = true where id > 1`},
	},
	{name: "a view and a rule", create: usersOfApp + `; create view people as select id, banned from users; create rule soft as on delete to users where old.id = 1 do instead update users set banned = true where id = 1`, app: []string{`update people set banned = true where id = 2`, `delete from people where id in (1, 2)`}},
	{name: "another type of the id", app: []string{`delete from users where id = 1`, `alter table users alter column id type bigint`, `delete from users where id = 2`, `update users set banned = true`, `alter table users alter column id type text`, `update users set banned = false`, `delete from users where id = '3'`}},
	{name: "dropped and renamed columns", app: []string{`update users set banned = true`, `alter table users drop column "deletedAt"`, `update users set banned = false`, `alter table users rename column banned to blocked`, `update users set blocked = true`, `delete from users where id = 1`, `alter table users drop column id cascade`, `update users set blocked = false`, `delete from users where seen = 0`, `alter table users add column id uuid default gen_random_uuid() primary key`, `insert into users default values`, `delete from users`}},
	{name: "a renamed table", app: []string{`alter table users rename to people`, `delete from people where id = 1`, `create schema if not exists elsewhere; alter table people set schema elsewhere`, `delete from elsewhere.people where id = 2`, `drop table elsewhere.people`, usersOfApp, `delete from users`}},
	{name: "a recreated table", app: []string{`drop table users`, usersOfApp, `update users set banned = true`, `delete from users`}},
	{name: "everything of a role is dropped", app: []string{`create role %s_owner`, `alter table users owner to %s_owner`, `drop owned by %s_owner`, `drop role %s_owner`}},
	{name: "maintenance", app: []string{`alter table users disable trigger all`, `delete from users where id = 1`, `alter table users enable trigger all`, `delete from users where id = 2`, `vacuum full users`, `cluster users using users_pkey`, `alter table users set unlogged`, `alter table users set logged`, `alter table users replica identity full`, `create table copy (like users including all)`, `reindex table users`, `alter table users set (fillfactor = 50)`}, after: "copy"},
}

// TestNoStatementOfTheAppEndsInAnotherWay runs everything with and without triggers.
func TestNoStatementOfTheAppEndsInAnotherWay(t *testing.T) {
	t.Parallel()
	name := database(t)
	writer := "app_of_" + name
	run(t, name, `create role `+writer)
	version := versionOf(t, name)
	for i, s := range statements {
		t.Run(s.name, func(t *testing.T) {
			if s.since > version {
				t.Skipf("needs Postgres %d", s.since)
			}
			var outcomes []string
			for _, installed := range []bool{false, true} {
				schema := fmt.Sprintf("app %d %t", i, installed)
				run(t, name, `create schema "`+schema+`"; grant usage, create on schema "`+schema+`" to public; set search_path = "`+schema+`"; `+cmp.Or(s.create, usersOfApp)+
					`; grant all on all tables in schema "`+schema+`" to `+writer)
				if installed {
					users := Users{ID: cmp.Or(s.id, "id"), Disabled: []string{"banned", "deletedAt"}}
					run(t, name, triggers{schema, cmp.Or(s.table, "users"), users}.installSQL(), `revoke all on schema stale_session from public; revoke all on all functions in schema stale_session from public`)
				}
				got := outcome(t, server.DSN(name), schema, s.app, writer)
				outcomes = append(outcomes, got+content(t, name, schema, cmp.Or(s.after, cmp.Or(s.table, "users"))))
			}
			if outcomes[0] != outcomes[1] {
				t.Errorf("without triggers:\n%s\nwith triggers:\n%s", outcomes[0], outcomes[1])
			}
		})
	}
}

// outcome runs statements on one connection, and returns how each of them ends.
func outcome(t *testing.T, dsn, schema string, statements []string, writer string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `select set_config('search_path', quote_ident($1), false)`, schema); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, statement := range statements {
		results, err := conn.PgConn().Exec(t.Context(), strings.ReplaceAll(statement, "%s", writer)).ReadAll()
		for _, result := range results {
			fmt.Fprintln(&b, result.CommandTag)
		}
		var pg *pgconn.PgError
		if errors.As(err, &pg) {
			fmt.Fprintf(&b, "%s: %s %s\n", statement, pg.Code, strings.ReplaceAll(pg.Message, schema, ""))
		} else if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return b.String()
}

// content returns the rows of a table; empty if it does not exist.
func content(t *testing.T, name, schema, table string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var rows string
	err = conn.QueryRow(t.Context(), `select coalesce(string_agg(md5(t::text), ' ' order by t::text collate "C"), '') from `+quote(schema, table)+` t`).Scan(&rows)
	if sqlState(err) == "42P01" {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func versionOf(t *testing.T, name string) (version int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err == nil {
		defer conn.Close(context.Background())
		err = conn.QueryRow(t.Context(), `select current_setting('server_version_num')::int / 10000`).Scan(&version)
	}
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// TestATwoPhaseCommitIsNotRefused shows that nothing is notified where the server can
// prepare transactions, and that this is said.
func TestATwoPhaseCommitIsNotRefused(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "max_prepared_transactions=2")
	d, lines := open(t, s.DSN("postgres"), Config{})
	install(t, d)
	execute(t, s, `begin; delete from users where id = 'live'; insert into users values ('new'); update users set id = 'newer'; prepare transaction 'sign off'`, `commit prepared 'sign off'`)
	finds(t, d.Diagnose(t.Context()), directories.Note, "send nothing, because of a setting of the server: max_prepared_transactions")
	watched(t, d, accounts.Config{Poll: quickly})
	eventually.Holds(t, "the listener knows", func() bool { return listenerState(d.state.Load()) == silent })
	if lines.FilterMessageSnippet("max_prepared_transactions").Len() != 1 || d.Describe().Notified {
		t.Errorf("logged %v", lines.All())
	}
}

// TestNoTimeoutOfTheAppEndsACommit has a COMMIT that holds the lock of all that
// notify, and never ends: it waits for a standby that does not exist.
func TestNoTimeoutOfTheAppEndsACommit(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "wal_level=replica", "max_wal_senders=1")
	execute(t, s, `insert into users select 'user' || g from generate_series(1, 10) g`)
	d, _ := open(t, s.DSN("postgres"), Config{})
	install(t, d)
	execute(t, s, `alter system set synchronous_standby_names = 'nobody'`, `select pg_reload_conf()`)
	holder, err := pgx.Connect(t.Context(), s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = holder.PgConn().Exec(ctx, `create table written (); notify other`).ReadAll()
	}()
	t.Cleanup(func() { cancel(); <-ended; _ = holder.Close(context.Background()) })
	waits := func() bool {
		return s.Exec(t.Context(), "postgres", `do $$ begin if not exists (select from pg_stat_activity where wait_event = 'SyncRep') then raise 'not yet'; end if; end $$`) == nil
	}
	eventually.Holds(t, "a COMMIT that notifies waits", waits)
	execute(t, s, `set synchronous_commit = local`, `set lock_timeout = '100ms'`, `update users set id = 'renamed' where id = 'user1'`, `delete from users where id = 'user2'`)
	if versionOf(t, "postgres") >= 17 {
		execute(t, s, `set synchronous_commit = local`, `set transaction_timeout = '30s'`, `delete from users where id = 'user3'`)
	}
}

// TestOneWriterDoesNotWaitForAnother has two transactions at a time.
func TestOneWriterDoesNotWaitForAnother(t *testing.T) {
	t.Parallel()
	name := database(t, usersOfApp)
	d, _ := open(t, server.DSN(name), Config{})
	install(t, d)
	first, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close(context.Background())
	if _, err := first.Exec(t.Context(), `begin; delete from users where id = 1`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := server.Exec(ctx, name, `delete from users where id = 2; update users set banned = true where id = 3`); err != nil {
		t.Errorf("while another deletes: %v", err)
	}
}

// TestAFullQueueFailsNoCommit fills the queue of notifications, of which somebody reads
// none.
func TestAFullQueueFailsNoCommit(t *testing.T) {
	t.Parallel()
	if versionOf(t, "postgres") < 17 {
		t.Skip("the queue is too large to fill: needs Postgres 17")
	}
	s := ownServer(t, "max_notify_queue_pages=64")
	d, _ := open(t, s.DSN("postgres"), Config{})
	install(t, d)
	sleeper, err := pgx.Connect(t.Context(), s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer sleeper.Close(context.Background())
	for _, command := range []string{`listen other`, `begin`} {
		if _, err := sleeper.Exec(t.Context(), command); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		err = s.Exec(t.Context(), "postgres", `select pg_notify('other', g || repeat('x', 7000)) from generate_series(1, 10) g`)
		if err != nil {
			break
		}
	}
	if sqlState(err) != "54000" {
		t.Fatalf("the queue is not full: %v", err)
	}
	execute(t, s, `update users set id = 'renamed'`, `delete from users`, `truncate users`)
}

// TestALogicalSubscriberAppliesEverything has triggers on both ends.
func TestALogicalSubscriberAppliesEverything(t *testing.T) {
	t.Parallel()
	publisher, subscriber := subscribed(t, `alter table users add banned boolean`, "users")
	for _, s := range []*pgtest.Server{publisher, subscriber} {
		d, _ := open(t, s.DSN("postgres"), Config{})
		install(t, d)
	}
	has := func(what, condition string) {
		eventually.Holds(t, what, func() bool {
			return subscriber.Exec(t.Context(), "postgres", `do $$ begin if not exists (select `+condition+`) then raise 'not yet'; end if; end $$`) == nil
		})
	}
	execute(t, publisher, `insert into users select 'user' || g from generate_series(1, 3000) g`, `update users set banned = true`)
	has("an update is applied", `from users where banned having count(*) = 3001`)
	execute(t, publisher, `delete from users where id <> 'user7'`)
	has("a deletion is applied", `from users having count(*) = 1`)
	execute(t, publisher, `truncate users`)
	has("an emptied table is applied", `from users having count(*) = 0`)
}
