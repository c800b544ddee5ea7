package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

func TestUsersAreFoundInTheSchemasOfWellKnownStacks(t *testing.T) {
	t.Parallel()
	const uuid = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
	for name, c := range map[string]struct {
		schema string
		params string
		id     string
		others []string // subjects that have no row
	}{
		"Prisma, cuid": {
			`create table "User" (id text primary key, email text, "createdAt" timestamp(3) not null default current_timestamp);
			 insert into "User" values ('clx0a1b2c0000qwer1234tyui', 'a@b.c')`, "", "clx0a1b2c0000qwer1234tyui", []string{"CLX0A1B2C0000QWER1234TYUI", "1", ""},
		},
		"Prisma, autoincrement": {
			`create table "User" (id serial primary key); insert into "User" values (42)`, "", "42", []string{"43", " 42", "+42", "042", "42.0", "abc", "9999999999", "-1", "4e1", "0x2a"},
		},
		"Prisma in a schema of its own": {
			`create schema app; create table app."User" (id text primary key); insert into app."User" values ('x')`, "&schema=app&connection_limit=1", "x", []string{"y"},
		},
		"pg adapter": {
			`create table users (id serial primary key, name varchar(255), email varchar(255), "emailVerified" timestamptz, image text); insert into users values (1)`, "", "1", []string{"2"},
		},
		"Drizzle, Better Auth": {
			`create table "user" (id text primary key, banned boolean); insert into "user" values ('u1')`, "", "u1", []string{"u2"},
		},
		"TypeORM": {
			`create table users (id uuid primary key); insert into users values ('` + uuid + `')`, "", uuid, []string{"7d444840-9dc0-11d1-b245-5ffdce74fad3", "{7d444840-9dc0-11d1-b245-5ffdce74fad2", "7d444840-9dc0-11d1-b245-5ffdce74fad2a", "x"},
		},
		"a UUID without hyphens": {
			`create table users (id uuid primary key); insert into users values ('` + uuid + `')`, "", strings.ReplaceAll(uuid, "-", ""), nil,
		},
		"a UUID in braces and upper case": {
			`create table users (id uuid primary key); insert into users values ('` + uuid + `')`, "", "{" + strings.ToUpper(uuid) + "}", nil,
		},
		"ids of Google": {
			`create table users (id numeric(21,0) primary key); insert into users values (109876543210123456789)`, "", "109876543210123456789", []string{"109876543210123456788", "0109876543210123456789", "1e20"},
		},
		"Kysely": {
			`create table "User" (id uuid primary key default gen_random_uuid()); insert into "User" values ('` + uuid + `')`, "", strings.ToUpper(uuid), nil,
		},
		"Supabase": {
			`create schema next_auth; create table next_auth.users (id uuid primary key); insert into next_auth.users values ('` + uuid + `')`, "", uuid, nil,
		},
		"Lucia": {
			`create table auth_user (id varchar(15) primary key); insert into auth_user values ('abcdefghijklmno')`, "", "abcdefghijklmno", []string{"abcdefghijklmnopq"},
		},
		"bigint": {
			`create table users (id bigint primary key); insert into users values (9007199254740993)`, "", "9007199254740993", []string{"9007199254740992", "9223372036854775808"},
		},
		"smallint": {
			`create table users (id smallint primary key); insert into users values (7)`, "", "7", []string{"70000"},
		},
		"numeric": {
			`create table users (id numeric primary key); insert into users values (7)`, "", "7", []string{"7.0"},
		},
		"char": {
			`create table users (id char(8) primary key); insert into users values ('abc')`, "", "abc", []string{"abcd"},
		},
		"citext": {
			`create extension citext; create table users (id citext primary key); insert into users values ('Ada@Example.com')`, "", "ada@example.com", []string{"bob@example.com"},
		},
		"a domain over text": {
			`create domain user_id as text check (value like 'u%'); create table users (id user_id primary key); insert into users values ('u1')`, "", "u1", []string{"x1"},
		},
		"a domain over uuid": {
			`create domain user_id as uuid; create table users (id user_id primary key); insert into users values ('` + uuid + `')`, "", uuid, []string{"x"},
		},
		"a view": {
			`create table people (id int primary key); create view users as select * from people; insert into people values (5)`, "", "5", []string{"6"},
		},
		"a table without an id next to it": {
			`create table "user" (login text); create table users (id int primary key); insert into users values (5)`, "", "5", []string{"6"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, lines := open(t, server.DSN(database(t, c.schema))+c.params, Config{})
			if !lookup(t, d, c.id).Exists {
				t.Errorf("%q was not found", c.id)
			}
			for _, other := range c.others {
				if lookup(t, d, other).Exists {
					t.Errorf("%q was found", other)
				}
			}
			if lines.FilterMessage("found the users table").Len() != 1 {
				t.Errorf("logged %v", lines.All())
			}
		})
	}
}

func TestALocalTimeWithoutAZoneIsNotUsedByItself(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id int primary key, created_at timestamp default now()); insert into users values (1)`)
	run(t, name, `alter database `+name+` set timezone = 'Asia/Tokyo'`)
	for _, c := range []struct {
		users Users
		used  bool
	}{{Users{}, false}, {Users{CreatedAt: "created_at"}, true}} {
		d, _ := open(t, server.DSN(name), Config{Users: c.users})
		if used := !lookup(t, d, "1").CreatedAt.IsZero(); used != c.used {
			t.Errorf("with %+v it is used: %t, want %t", c.users, used, c.used)
		}
	}
	// London is at UTC in winter only.
	run(t, name, `alter database `+name+` set timezone = 'Europe/London'`)
	d, _ := open(t, server.DSN(name), Config{})
	if !lookup(t, d, "1").CreatedAt.IsZero() {
		t.Error("used in London's time")
	}
}

func TestConfigurationsThatTheDatabaseContradicts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema string
		config Config
		class  directories.Class
		says   []string
	}{
		"no users table": {`select 1`, Config{}, directories.Schema, []string{"no users table", `"User" "users" "user" "auth_user"`, `with a column "id" in the search path, which is "public"`, "users TABLE"}},
		"no users table in the search path": {
			`create schema app; create table app."User" (id text primary key)`, Config{}, directories.Schema, []string{`there is "app"."User": add ` + "`users app.User`"},
		},
		"no users table with an id": {
			`create table users (user_id text primary key); create table "User" (a int, b int)`,
			Config{},
			directories.Schema,
			[]string{`"public"."users", whose key is "user_id": add ` + "`users public.users`, with `id user_id` in its block", `"public"."User", which has no column "id"`},
		},
		"a users table with an odd name": {
			`create schema "my app"; create table "my app"."user s" (id int); create table "my app"."Users" ("the id" int primary key)`,
			Config{},
			directories.Schema,
			[]string{"`users \"my app.Users\"`, with `id \"the id\"` in its block"},
		},
		"two tables": {
			`create table users (id int); create table "User" (id int)`, Config{}, directories.Schema, []string{"`users public.User`", "`users public.users`"},
		},
		"a table in another case": {
			`create table users (id int)`, Config{Users: Users{Table: "Users"}}, directories.Schema, []string{"Users", "public.users"},
		},
		"a table in a missing schema": {
			`create table users (id int)`, Config{Users: Users{Table: "auth.users"}}, directories.Schema, []string{"auth.users", "public.users"},
		},
		"a column in another case": {
			`create table users (id int, "createdAt" timestamptz)`, Config{Users: Users{CreatedAt: "created_at"}}, directories.Schema, []string{"created_at", "createdAt"},
		},
		"no id column": {
			`create table users (uid int)`, Config{Users: Users{Table: "users"}}, directories.Schema, []string{`"id"`},
		},
		"an id of a type that cannot be looked up": {
			`create table users (id jsonb)`, Config{}, directories.Schema, []string{"jsonb"},
		},
		"a time of another type": {
			`create table users (id int, created_at text)`, Config{Users: Users{CreatedAt: "created_at"}}, directories.Schema, []string{"created_at", "text"},
		},
		"a disabled column of a type without a meaning": {
			`create table users (id int, disabled text)`, Config{Users: Users{Disabled: []string{"disabled"}}}, directories.Schema, []string{"disabled", "text"},
		},
		"no match column": {
			`create table users (id int, email text)`, Config{Users: Users{Match: map[string]string{"mail": "Email"}}}, directories.Schema, []string{"Email", "email"},
		},
		"a query with a syntax error": {`select 1`, Config{Query: "selec"}, directories.Schema, []string{"query"}},
		"a query without a parameter": {
			`create table users (id int)`, Config{Query: "select id from users"}, directories.Schema, []string{"$1::text[]"},
		},
		"a query with the wrong parameter": {
			`create table users (id uuid)`, Config{Query: "select id from users where id = any($1)"}, directories.Schema, []string{"$1::text[]::uuid[]"},
		},
		"a query without an id": {
			`create table users (uid int)`, Config{Query: "select uid from users where uid = any($1::text[]::int[])"}, directories.Schema, []string{`"id"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, lines := open(t, server.DSN(database(t, c.schema)), c.config)
			account, _, err := ask(engine(t, d, accounts.Config{Poll: -1}), "1", time.Time{})
			e := failureOf(t, account, err)
			if e.Class != c.class {
				t.Errorf("class %s, want %s: %v", e.Class, c.class, e)
			}
			for _, text := range c.says {
				if !strings.Contains(e.Error(), text) {
					t.Errorf("%q does not say %q", e, text)
				}
			}
			if lines.FilterMessageSnippet("user lookup failed").Len() != 1 {
				t.Errorf("logged %v", lines.All())
			}
		})
	}
}

// The columns, the rights to them and other tables are read again once they have
// changed.
func TestAMigrationIsNoticed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema         string
		grant, migrate string // with %s for the role that looks
		before, after  string
		subject        string
	}{
		"a column that disables": {`create table users (id text primary key)`, `grant select on users to %s`, `alter table users add banned boolean not null default true`, "live", "user_disabled", "ada"},
		"a right to such a column": {
			`create table users (id text primary key, banned boolean not null default true)`, `grant select (id) on users to %s`, `grant select on users to %s`, "live", "user_disabled", "ada",
		},
		"another table of the same name": {
			`create table users (id text primary key)`, `grant select on users to %s`, `create schema app; create table app.users (id text)`, "user_not_found", "unknown", "gone",
		},
		"another table of the same name goes": {
			`create table users (id text primary key); create schema app; create table app.users (id text)`, `grant select on users to %s`, `drop schema app cascade`, "unknown", "user_not_found", "gone",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, c.schema, `insert into users values ('ada')`)
			reader, dsn := role(t, db, c.grant)
			d, _ := open(t, dsn, Config{})
			e := engine(t, d, accounts.Config{Poll: quickly, TTL: time.Hour})
			e.StartWatch()
			becomes := func(want string) {
				t.Helper()
				eventually.Holds(t, "the session is "+want, func() bool {
					got, _ := judge(e, visitor{subject: c.subject, age: ago})
					return got == want
				})
			}
			becomes(c.before)
			eventually.Holds(t, "it is watched", func() bool { return e.Stats().Watching })
			run(t, db, strings.ReplaceAll(c.migrate, "%s", reader))
			becomes(c.after)
		})
	}
}

func TestAnIDWithoutAnIndexIsWarnedOf(t *testing.T) {
	t.Parallel()
	d, lines := open(t, server.DSN(database(t, `create table users (id int)`)), Config{})
	lookup(t, d, "1")
	if lines.FilterMessageSnippet("no index").Len() != 1 {
		t.Errorf("logged %v", lines.All())
	}
}

func TestTableNames(t *testing.T) {
	for name, want := range map[string]string{
		"users":                   `"users"`,
		"User":                    `"User"`,
		"auth.users":              `"auth"."users"`,
		`"my.schema"."User"`:      `"my.schema"."User"`,
		`"my.schema".users`:       `"my.schema"."users"`,
		`app."User"`:              `"app"."User"`,
		"with blanks":             `"with blanks"`,
		"":                        "",
		".":                       "",
		"a.":                      "",
		".a":                      "",
		"a.b.c":                   "",
		`"a`:                      "",
		`""`:                      "",
		`a"b`:                     "",
		`"a"b`:                    "",
		`users"; drop table x;--`: "",
	} {
		parts, err := splitName(name)
		got := ""
		if err == nil {
			got = quote(parts...)
		}
		if got != want {
			t.Errorf("%s is %s (%v), want %s", name, got, err, want)
		}
	}
}
