package postgres

import (
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

func TestASessionIsLiveIfAnyRowOfItsUserIs(t *testing.T) {
	t.Parallel()
	byEmail, byType := Users{ID: "email"}, Users{Match: map[string]string{"type": "type"}}
	for name, c := range map[string]struct {
		schema   string
		config   Config
		visitors []visitor
	}{
		"soft-deleted and signed up again": {
			`create table users (id serial, email text, "deletedAt" timestamptz); create unique index on users (email) where "deletedAt" is null;
			 insert into users (email, "deletedAt") values ('b@x.com', now()), ('b@x.com', null), ('gone@x.com', now()), ('gone@x.com', now())`,
			Config{Users: byEmail},
			[]visitor{{subject: "b@x.com", want: "live"}, {subject: "gone@x.com", want: "user_disabled"}, {subject: "nobody@x.com", want: "user_not_found"}},
		},
		"the live row is first": {
			`create table users (id serial, email text, "deletedAt" timestamptz); insert into users (email, "deletedAt") values ('b@x.com', null), ('b@x.com', now())`,
			Config{Users: byEmail},
			[]visitor{{subject: "b@x.com", want: "live"}},
		},
		"the live row is one of three, whose id is the same in another case": {
			`create table users (id serial, email text, banned boolean); insert into users (email, banned) values ('B@x.com', true), ('b@X.com', false), ('b@x.com', true)`,
			Config{Users: byEmail},
			[]visitor{{subject: "b@x.com", want: "live"}},
		},
		"a query of two tables": {
			`create table admins (id int primary key); create table members (id int primary key); insert into admins values (1), (2); insert into members values (1), (3)`,
			Config{
				Query: `select id, 'admin' as type from admins where id = any($1::text[]::int[]) union all select id, 'member' from members where id = any($1::text[]::int[])`,
				Users: byType,
			},
			[]visitor{
				{subject: "1", claims: []string{"admin"}, want: "live"},
				{subject: "1", claims: []string{"member"}, want: "live"},
				{subject: "2", claims: []string{"member"}, want: "claim_mismatch"},
				{subject: "3", claims: []string{"member"}, want: "live"},
				{subject: "4", claims: []string{"member"}, want: "user_not_found"},
			},
		},
		"a view with duplicates": {
			`create table people (id int primary key, banned boolean); create table memberships (person int, team text);
			 create view users as select p.id, p.banned, m.team as type from people p join memberships m on m.person = p.id;
			 insert into people values (1, false), (2, true); insert into memberships values (1, 'a'), (1, 'b'), (1, 'c'), (2, 'a'), (2, 'b')`,
			Config{Users: Users{Table: "users", Match: map[string]string{"team": "type"}}},
			[]visitor{
				{subject: "1", claims: []string{"a"}, want: "live"},
				{subject: "1", claims: []string{"b"}, want: "live"},
				{subject: "1", claims: []string{"c"}, want: "live"},
				{subject: "1", claims: []string{"d"}, want: "claim_mismatch"},
				{subject: "2", claims: []string{"a"}, want: "user_disabled"},
			},
		},
		"a table that others inherit from": {
			`create table users (id int primary key, banned boolean); create table staff () inherits (users); insert into users values (1, true); insert into staff values (1, false), (2, true)`,
			Config{},
			[]visitor{{subject: "1", want: "live"}, {subject: "2", want: "user_disabled"}},
		},
		"partitions, each with a row": {
			`create table users (id int, tenant int, banned boolean, primary key (id, tenant)) partition by list (tenant);
			 create table users_1 partition of users for values in (1); create table users_2 partition of users for values in (2); insert into users values (7, 1, true), (7, 2, false), (8, 1, true)`,
			Config{},
			[]visitor{{subject: "7", want: "live"}, {subject: "8", want: "user_disabled"}},
		},
		"an older row of a reused id": {
			`create table users (id int, created_at timestamptz); insert into users values (1, now()), (1, now() - interval '1 day'), (2, now())`,
			Config{},
			[]visitor{{subject: "1", want: "live"}, {subject: "2", want: "token_predates_account"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(database(t, c.schema)), c.config)
			visit(t, engine(t, d, accounts.Config{Poll: -1}), c.visitors...)
		})
	}
}

// More rows than are read are not those of one user.
func TestAnIDThatManyRowsHaveEndsNobody(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id text, banned boolean); insert into users select 'org', true from generate_series(1, 500); insert into users values ('ada', true)`)
	d, _ := open(t, server.DSN(name), Config{})
	e := engine(t, d, accounts.Config{Poll: -1})
	unproven(t, e, "org", "column that identifies a user")
	visit(t, e, visitor{subject: "ada", want: "user_disabled"})
}

// A policy may show the row that is deleted, and hide the one that is live.
func TestAHiddenRowOfAnIDThatIsNotUniqueCounts(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id serial primary key, email text, deleted_at timestamptz, tenant int);
		insert into users (email, deleted_at, tenant) values ('b@x.com', now(), 1), ('b@x.com', null, 2), ('c@x.com', null, 1);
		alter table users enable row level security; create policy one on users using (tenant = 1)`)
	_, dsn := role(t, name, `grant select on users to %s`)
	d, _ := open(t, dsn, Config{Users: Users{ID: "email"}})
	e := engine(t, d, accounts.Config{Poll: -1})
	unproven(t, e, "b@x.com", "row-level security", "BYPASSRLS")
	visit(t, e, visitor{subject: "c@x.com", want: "live"})
}

func TestAllRowsOfAUserAreCheckedAgain(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (n int, id text, banned boolean); insert into users values (1, 'ada', true), (2, 'ada', false)`)
	d, _ := open(t, server.DSN(name), Config{})
	e := watched(t, d, accounts.Config{Poll: quickly})
	becomes := func(want string) {
		t.Helper()
		eventually.Holds(t, "the session is "+want, func() bool {
			got, err := judge(e, visitor{subject: "ada", age: ago})
			return err == nil && got == want
		})
	}
	becomes("live")
	run(t, name, `update users set banned = true`)
	becomes("user_disabled")
	run(t, name, `update users set banned = false where n = 1`)
	becomes("live")
	run(t, name, `delete from users where n = 1`)
	becomes("user_disabled")
	run(t, name, `delete from users`)
	becomes("user_not_found")
}
