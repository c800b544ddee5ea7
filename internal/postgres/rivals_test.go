package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

func TestAnotherTableOfTheSameNameEndsNobody(t *testing.T) {
	t.Parallel()
	// In each, "old" and "both" are in public.users, "both" and "new" in app.users,
	// where the app's role looks first.
	const tables = `create schema app; create table public.users (id text primary key); create table app.users (id text primary key);
		insert into public.users values ('old'), ('both'); insert into app.users values ('both'), ('new');`
	const numbers = `create schema app; create table public.users (id int primary key); create table app.users (id int primary key);
		insert into public.users values (1), (2); insert into app.users values (2), (3);`
	for name, c := range map[string]struct {
		schema   string
		commands []string // with %s for the role
		users    Users
		says     []string // of a user whom only the app's table has
		visitors []visitor
	}{
		"the app's role has another search path": {
			tables,
			[]string{`grant usage on schema app to %s`, `grant select on public.users, app.users to %s`},
			Users{},
			[]string{`"app"."users"`, "`users app.users`", "`users public.users`"},
			[]visitor{{subject: "old", want: "live"}, {subject: "both", want: "live"}, {subject: "nobody", want: "user_not_found"}},
		},
		"and the table is named, without a schema": {
			tables,
			[]string{`grant usage on schema app to %s`, `grant select on public.users, app.users to %s`},
			Users{Table: "users"},
			[]string{"`users app.users`"},
			[]visitor{{subject: "both", want: "live"}, {subject: "nobody", want: "user_not_found"}},
		},
		"and the role may not read the app's table": {
			tables,
			[]string{`grant select on public.users to %s`},
			Users{},
			[]string{`"app"."users", which the role may not read`, "`users app.users`"},
			[]visitor{{subject: "both", want: "live"}, {subject: "nobody", want: "unknown"}},
		},
		"and only the columns of another table": {
			tables + `alter table app.users add email text`,
			[]string{`grant usage on schema app to %s`, `grant select (email) on app.users to %s`, `grant select on public.users to %s`},
			Users{},
			[]string{"which the role may not read"},
			[]visitor{{subject: "nobody", want: "unknown"}},
		},
		"and a policy hides its rows": {
			tables + `alter table app.users enable row level security`,
			[]string{`grant usage on schema app to %s`, `grant select on public.users, app.users to %s`},
			Users{},
			[]string{"which the role may not read"},
			[]visitor{{subject: "nobody", want: "unknown"}},
		},
		"and a row ends the session of somebody else": {
			tables + `alter table public.users add banned boolean default true`,
			[]string{`grant usage on schema app to %s`, `grant select on public.users, app.users to %s`},
			Users{},
			[]string{"`users app.users`"},
			[]visitor{{subject: "old", want: "user_disabled"}, {subject: "both", want: "unknown"}},
		},
		"and ids are numbers": {
			numbers,
			[]string{`grant usage on schema app to %s`, `grant select on public.users, app.users to %s`},
			Users{},
			nil,
			[]visitor{{subject: "2", want: "live"}, {subject: "3", want: "unknown"}, {subject: "4", want: "user_not_found"}, {subject: "3", want: "unknown"}},
		},
		"and ids are numbers, which the role may not read": {
			numbers + `alter table public.users add banned boolean default true`,
			[]string{`grant select on public.users to %s`},
			Users{},
			nil,
			[]visitor{{subject: "1", want: "unknown"}, {subject: "3", want: "unknown"}, {subject: "4", want: "unknown"}},
		},
		"and its ids are of another type": {
			`create schema app; create table public.users (id text primary key); create table app.users (id uuid primary key); insert into public.users values ('both')`,
			[]string{`grant select on public.users to %s`},
			Users{},
			nil,
			[]visitor{{subject: "new", want: "user_not_found"}, {subject: "7d444840-9dc0-11d1-b245-5ffdce74fad2", want: "unknown"}},
		},
		"two projects of create-t3-app": {
			`create table "user" (id text primary key); create table project1_user (id text primary key); insert into "user" values ('theirs'); insert into project1_user values ('new')`,
			[]string{`grant select on "user", project1_user to %s`},
			Users{},
			[]string{`"public"."project1_user"`, "`users public.project1_user`", "`users public.user`"},
			[]visitor{{subject: "nobody", want: "user_not_found"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, c.schema)
			_, dsn := role(t, db, c.commands...)
			d, _ := open(t, dsn, Config{Users: c.users})
			e := engine(t, d, accounts.Config{Poll: -1})
			for range 2 { // whoever was found in between
				if c.says != nil {
					unproven(t, e, "new", c.says...)
				}
				visit(t, e, c.visitors...)
			}
		})
	}
}

// Once the table is known to be the app's, only a copy of it counts.
func TestATableOfASimilarNameDoesNotCountOnceAUserWasFound(t *testing.T) {
	t.Parallel()
	db := database(t, `create table users (id text primary key); insert into users values ('ada'); create table deleted_users (id text primary key); insert into deleted_users values ('bob')`)
	d, _ := open(t, server.DSN(db), Config{})
	e := engine(t, d, accounts.Config{Poll: -1, TTL: time.Nanosecond})
	unproven(t, e, "bob", "`users public.users`", "`users public.deleted_users`")
	visit(t, e, visitor{subject: "ada", want: "live"}, visitor{subject: "bob", want: "user_not_found"})
}

func TestTablesThatAreNotRivals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema string
		params string
		users  Users
	}{
		"the only one": {`create table users (id text primary key)`, "", Users{}},
		"named with its schema": {
			`create schema app; create table app.users (id text primary key); create table public.users (id text primary key); insert into app.users values ('gone')`, "", Users{Table: "public.users"},
		},
		"a view of it": {`create table users (id text primary key, banned boolean); create schema api; create view api.users as select * from public.users`, "", Users{}},
		"a view of a view of it": {
			`create table users (id text primary key); create schema api; create view api.people as select * from public.users; create view api.users as select * from api.people`, "", Users{},
		},
		"its partitions":       {`create table users (id text primary key) partition by hash (id); create schema parts; create table parts.users partition of users for values with (modulus 1, remainder 0)`, "", Users{}},
		"a table without ids":  {`create table users (id text primary key); create schema app; create table app.users (name text); insert into app.users values ('gone')`, "", Users{}},
		"ids of another type":  {`create table users (id text primary key); create schema app; create table app.users (id int primary key)`, "", Users{}},
		"Prisma's schema":      {`create schema app; create table app."User" (id text primary key); create table public."User" (id text primary key); insert into public."User" values ('gone')`, "&schema=app", Users{}},
		"JDBC's schema":        {`create schema app; create table app.users (id text primary key); create table public.users (id text primary key); insert into public.users values ('gone')`, "&currentSchema=app", Users{}},
		"JDBC's schemas":       {`create schema app; create table app.users (id text primary key); create table public.users (id text primary key); insert into public.users values ('gone')`, "&currentSchema=none,app,public", Users{}},
		"a search path":        {`create schema "my app"; create table "my app".users (id text primary key); create table public.users (id text primary key); insert into public.users values ('gone')`, `&search_path="my app"`, Users{}},
		"options of the URL":   {`create schema app; create table app.users (id text primary key); create table public.users (id text primary key); insert into public.users values ('gone')`, "&options=-c%20search_path%3Dapp", Users{}},
		"options, without a -": {`create schema app; create table app.users (id text primary key); create table public.users (id text primary key); insert into public.users values ('gone')`, "&options=--search_path=app", Users{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(database(t, c.schema))+c.params, Config{Users: c.users})
			// The first that is ever asked for.
			visit(t, engine(t, d, accounts.Config{Poll: -1}), visitor{subject: "gone", want: "user_not_found"})
		})
	}
}

// The path of the app's own address is the app's, in each way to write it.
func TestTheSearchPathOfTheAddressCounts(t *testing.T) {
	t.Parallel()
	name := database(t, `create schema app; create table app.users (id text primary key); create table public.users (id text primary key); insert into app.users values ('new'); insert into public.users values ('old')`)
	url, keywords := server.DSN(name), "host=127.0.0.1 port="+strings.Split(server.Address(), ":")[1]+" user=postgres sslmode=disable dbname="+name
	for _, dsn := range []string{
		url + "&currentSchema=app", "jdbc:" + strings.Replace(url, "postgres://postgres@", "postgresql://", 1) + "&user=postgres&currentSchema=app,public",
		url + "&schema=app", url + "&search_path=app", url + "&options=-c%20search_path%3Dapp", url + "&options=-csearch_path=app",
		keywords + " search_path=app", keywords + " options='-c search_path=app'",
	} {
		d, _ := open(t, dsn, Config{})
		visit(t, engine(t, d, accounts.Config{Poll: -1}), visitor{subject: "new", want: "live"}, visitor{subject: "old", want: "user_not_found"})
	}
}

// A migration renames the table for a moment, and the next schema of the search
// path has one of that name.
func TestATableThatIsRenamedForAMomentDoesNotLeadToAnother(t *testing.T) {
	t.Parallel()
	name := database(t, `create schema app; create table app.users (id text primary key); create table public.users (id text primary key);
		insert into app.users values ('both'), ('new'); insert into public.users values ('both'), ('old')`, `alter table public.users add banned boolean default true`)
	run(t, name, `alter database `+name+` set search_path = app, public`)
	d, _ := open(t, server.DSN(name), Config{})
	e := engine(t, d, accounts.Config{Poll: -1, TTL: time.Nanosecond})
	check := func(title, both, current, old string) {
		t.Helper()
		for subject, want := range map[string]string{"both": both, "new": current, "old": old} {
			if got, err := judge(e, visitor{subject: subject, age: ago}); got != want {
				t.Errorf("%s: a session of %s is %s (%v), want %s", title, subject, got, err, want)
			}
		}
	}
	check("before", "live", "live", "unknown") // the other table has the user
	run(t, name, `alter table app.users rename to users_1`)
	check("meanwhile", "live", "live", "unknown")
	if failed := failure(t, d, "new"); failed.Class != directories.Schema || !strings.Contains(failed.Error(), `"app"."users"`) || !strings.Contains(failed.Error(), "`users public.users`") {
		t.Errorf("meanwhile: %v", failed)
	}
	run(t, name, `alter table app.users_1 rename to users`)
	check("afterwards", "live", "live", "unknown")
	run(t, name, `delete from app.users where id = 'new'`)
	check("once one is deleted", "live", "user_not_found", "unknown")
	run(t, name, `drop table app.users`)
	check("once it is dropped", "live", "unknown", "unknown")
	run(t, name, `create table app.users (id text primary key); insert into app.users values ('newer')`)
	check("once it was made again", "live", "user_not_found", "unknown") // the other has both
	visit(t, e, visitor{subject: "newer", want: "live"})
}

// What moved the table itself is no other table.
func TestATableThatIsMovedIsFollowed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		move    []string
		visitor visitor
	}{
		"renamed":                 {[]string{`alter table users rename to "User"`}, visitor{subject: "live", want: "live"}},
		"to another schema":       {[]string{`create schema app`, `alter table users set schema app`}, visitor{subject: "live", want: "live"}},
		"reset by another name":   {[]string{`drop table users`, `create table "user" (id text primary key)`}, visitor{subject: "live", want: "user_not_found"}},
		"reset in another schema": {[]string{`drop schema public cascade`, `create schema app`, `create table app.users (id text primary key)`}, visitor{subject: "live", want: "user_not_found"}},
		"hidden by one that is before it": {
			[]string{`create schema app`, `create table app.users (id text primary key)`}, visitor{subject: "nobody", want: "user_not_found"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, oneUser)
			run(t, db, `alter database `+db+` set search_path = app, public`)
			d, _ := open(t, server.DSN(db), Config{})
			e := engine(t, d, accounts.Config{Poll: -1, TTL: time.Nanosecond})
			visit(t, e, visitor{subject: "live", want: "live"})
			run(t, db, c.move...)
			visit(t, e, c.visitor)
		})
	}
}

// A database that was just reseeded, a stale cookie, and nothing but a database in
// the configuration: the first request ends the session.
func TestTheFirstRunEndsAStaleSession(t *testing.T) {
	t.Parallel()
	for name, schema := range map[string]string{
		"the only candidate": `create table "User" (id text primary key); insert into "User" values ('reseeded')`,
		"an empty table":     `create table "User" (id text primary key)`,
		"two, which have the same name, and neither has the user": `create table users (id text primary key); insert into users values ('reseeded'); create schema staging; create table staging.users (id text primary key); insert into staging.users values ('other')`,
		"a view that others use":                                  `create table users (id text primary key); create schema api; create view api.users as select * from users`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(database(t, schema)), Config{})
			visit(t, engine(t, d, accounts.Config{Poll: -1}), visitor{subject: "stale", want: "user_not_found"})
		})
	}
}

// A view that the operator did not name may omit users.
func TestAViewThatWasFoundEndsNobody(t *testing.T) {
	t.Parallel()
	const people = `create table people (id text primary key, banned boolean); insert into people values ('live', false), ('banned', true), ('hidden', false); `
	for name, c := range map[string]struct{ schema, says string }{
		"a view":              {people + `create view users as select * from people where id <> 'hidden'`, "not a table"},
		"a foreign table":     {people + foreign(`(id text, banned boolean)`), "not a table"},
		"a materialized view": {people + `create materialized view users as select * from people where id <> 'hidden'`, "materialized view"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t)
			run(t, db, strings.ReplaceAll(c.schema, "%database", db))
			d, _ := open(t, server.DSN(db), Config{})
			e := engine(t, d, accounts.Config{Poll: -1})
			visit(t, e, visitor{subject: "live", want: "live"}, visitor{subject: "banned", want: "unknown"})
			unproven(t, e, "gone", c.says)
		})
	}
	t.Run("until it is named", func(t *testing.T) {
		t.Parallel()
		d, _ := open(t, server.DSN(database(t, people+`create view users as select * from people`)), Config{Users: Users{Table: "users"}})
		visit(t, engine(t, d, accounts.Config{Poll: -1}), visitor{subject: "live", want: "live"}, visitor{subject: "banned", want: "user_disabled"}, visitor{subject: "gone", want: "user_not_found"})
	})
	t.Run("a materialized view, even if it is named", func(t *testing.T) {
		t.Parallel()
		db := database(t, people+`create materialized view cached as select * from people; create view users as select * from cached; insert into people values ('fresh', false)`)
		for _, table := range []string{"users", "public.cached"} {
			d, _ := open(t, server.DSN(db), Config{Users: Users{Table: table}})
			e := engine(t, d, accounts.Config{Poll: -1})
			visit(t, e, visitor{subject: "live", want: "live"})
			unproven(t, e, "fresh", "materialized view")
		}
	})
}

// foreign returns the SQL for the foreign table users, of people in the same
// database, which %database stands for.
func foreign(columns string) string {
	return `create extension postgres_fdw; create server here foreign data wrapper postgres_fdw options (host '127.0.0.1', port '` + strings.Split(server.Address(), ":")[1] + `', dbname '%database');
		create user mapping for public server here options (user 'postgres', password_required 'false'); create foreign table users ` + columns + ` server here options (table_name 'people')`
}
