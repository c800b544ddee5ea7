package postgres

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// server is a real Postgres, which the tests of this package share.
var server *pgtest.Server

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(func(s *pgtest.Server) int {
		server = s
		return m.Run()
	}))
}

// database makes a database of its own for a test.
func database(t testing.TB, commands ...string) string {
	t.Helper()
	name, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run(t, name, commands...)
	return name
}

// run runs SQL commands in a database.
func run(t testing.TB, name string, commands ...string) {
	t.Helper()
	if err := server.Exec(context.Background(), name, commands...); err != nil {
		t.Fatal(err)
	}
}

// open opens a directory, and returns the lines that it logs.
func open(t testing.TB, dsn string, config Config) (*Postgres, *observer.ObservedLogs) {
	t.Helper()
	core, lines := observer.New(zap.DebugLevel)
	logger := zap.New(core)
	config.Logger = func() *zap.Logger { return logger }
	if config.DSN == nil {
		config.DSN = func() (string, error) { return dsn, nil }
	}
	if config.Timeout == 0 {
		config.Timeout = 5 * time.Second // tests run on slow machines
	}
	p, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, lines
}

// lookup looks a subject up, which must not fail.
func lookup(t testing.TB, p *Postgres, subject string) *Account {
	t.Helper()
	account, _, err := ask(p, subject, time.Time{})
	if err != nil {
		t.Fatalf("looking %q up: %v", subject, err)
	}
	return account
}

// ask is Lookup at this time.
func ask(p *Postgres, subject string, since time.Time) (*Account, Source, error) {
	account := new(Account)
	source, err := p.Lookup(context.Background(), Query{[]byte(subject), p.now(), since}, account)
	return account, source, err
}

// failure looks a subject up, which must fail, and returns the class.
func failure(t testing.TB, p *Postgres, subject string) *Error {
	t.Helper()
	account, _, err := ask(p, subject, time.Time{})
	e, ok := err.(*Error) //nolint:errorlint // Lookup returns nothing else
	if !ok {
		t.Fatalf("looking %q up gave %+v, %v; want a failure", subject, account, err)
	}
	return e
}

func TestUsersAreFoundInTheSchemasOfWellKnownStacks(t *testing.T) {
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
			`create table users (id uuid primary key); insert into users values ('` + uuid + `')`, "", uuid, []string{"7d444840-9dc0-11d1-b245-5ffdce74fad3", "7d4448409dc011d1b2455ffdce74fad2", "{" + uuid + "}", "x"},
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
		"a table without an id beside it": {
			`create table "user" (login text); create table users (id int primary key); insert into users values (5)`, "", "5", []string{"6"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, lines := open(t, server.DSN(database(t, c.schema))+c.params, Config{})
			if !lookup(t, p, c.id).Exists {
				t.Errorf("%q was not found", c.id)
			}
			for _, other := range c.others {
				if lookup(t, p, other).Exists {
					t.Errorf("%q was found", other)
				}
			}
			if lines.FilterMessage("users are looked up").Len() != 1 {
				t.Errorf("logged %v", lines.All())
			}
		})
	}
}

func TestSubjectsThatCannotBeIDsNeverReachTheDatabase(t *testing.T) {
	name := database(t, `create table users (id int primary key); insert into users values (1)`)
	p, _ := open(t, server.DSN(name), Config{})
	lookup(t, p, "1")
	before := strings.Count(server.Log(), "ERROR:")
	for _, subject := range []string{"abc", "", "\x00", "1\x00", "\xff", "99999999999", strings.Repeat("1", 300), "1;drop table users"} {
		if lookup(t, p, subject).Exists {
			t.Errorf("%q was found", subject)
		}
	}
	if after := strings.Count(server.Log(), "ERROR:"); after != before {
		t.Errorf("the server has logged %d errors", after-before)
	}
}

func TestWhatTheColumnsSay(t *testing.T) {
	const long = "select set_config('TimeZone', 'UTC', false);"
	at := time.Date(2026, 5, 1, 12, 0, 0, 500_000_000, time.UTC)
	for name, c := range map[string]struct {
		schema string
		users  Users
		want   Account
	}{
		"created_at of an integer id, by itself": {
			`create table users (id int primary key, created_at timestamptz); insert into users values (1, '2026-05-01 14:00:00.5+02')`,
			Users{},
			Account{Exists: true, CreatedAt: at},
		},
		"createdAt without a time zone, as Prisma writes it": {
			`create table users (id int primary key, "createdAt" timestamp(3)); insert into users values (1, '2026-05-01 12:00:00.5')`,
			Users{},
			Account{Exists: true, CreatedAt: at},
		},
		"created_at of a text id is left alone": {
			`create table users (id text primary key, created_at timestamptz); insert into users values ('1', '2026-05-01 12:00:00.5Z')`,
			Users{},
			Account{Exists: true},
		},
		"created_at of a text id, named": {
			`create table users (id text primary key, born timestamptz); insert into users values ('1', '2026-05-01 12:00:00.5Z')`,
			Users{CreatedAt: "born"},
			Account{Exists: true, CreatedAt: at},
		},
		"no time": {
			`create table users (id int primary key, created_at timestamptz, sessions_valid_after timestamptz); insert into users values (1, null, 'infinity')`,
			Users{},
			Account{Exists: true},
		},
		"valid after, by itself": {
			`create table users (id text primary key, "sessionsValidAfter" timestamptz); insert into users values ('1', '2026-05-01 12:00:00.5Z')`,
			Users{},
			Account{Exists: true, ValidAfter: at},
		},
		"valid after, a date, named": {
			`create table users (id text primary key, changed date); insert into users values ('1', '2026-05-01')`,
			Users{ValidAfter: "changed"},
			Account{Exists: true, ValidAfter: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)},
		},
		"banned": {
			`create table "user" (id text primary key, banned boolean); insert into "user" values ('1', true)`, Users{}, Account{Exists: true, Disabled: true},
		},
		"not banned": {
			`create table "user" (id text primary key, banned boolean); insert into "user" values ('1', null)`, Users{}, Account{Exists: true},
		},
		"soft-deleted": {
			`create table "User" (id text primary key, "deletedAt" timestamp(3)); insert into "User" values ('1', now() - interval '1 minute')`, Users{}, Account{Exists: true, Disabled: true},
		},
		"to be deleted tomorrow": {
			`create table users (id text primary key, deleted_at timestamptz); insert into users values ('1', now() + interval '1 day')`, Users{}, Account{Exists: true},
		},
		"disabled by a number, one of two columns": {
			`create table users (id text primary key, state int, gone boolean); insert into users values ('1', 2, false)`, Users{Disabled: []string{"gone", "state"}}, Account{Exists: true, Disabled: true},
		},
		"disabled of a kind that tells nothing is left alone": {
			`create table users (id text primary key, disabled text); insert into users values ('1', 'yes')`, Users{}, Account{Exists: true},
		},
		"columns to match": {
			`create table users (id text primary key, email text, v int, stamp uuid, none text); insert into users values ('1', 'Ada@example.com', 3, '7d444840-9dc0-11d1-b245-5ffdce74fad2', null)`,
			Users{Match: []string{"email", "v", "stamp", "none"}},
			Account{Exists: true, Columns: [][]byte{[]byte("Ada@example.com"), []byte("3"), []byte("7d444840-9dc0-11d1-b245-5ffdce74fad2"), nil}},
		},
		"odd names": {
			`create schema "my.schema"; create table "my.schema"."The ""Users" ("The Id" text primary key); insert into "my.schema"."The ""Users" values ('1')`,
			Users{Table: `"my.schema".The ""Users`, ID: "The Id"},
			Account{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "odd names" {
				c.schema = `create schema "my.schema"; create table "my.schema"."The Users" ("The ""Id" text primary key); insert into "my.schema"."The Users" values ('1')`
				c.users, c.want = Users{Table: `"my.schema".The Users`, ID: `The "Id`}, Account{Exists: true}
			}
			p, _ := open(t, server.DSN(database(t, long+c.schema)), Config{Users: c.users})
			for _, from := range []string{"the database", "the cache"} {
				got := lookup(t, p, "1")
				if got.Exists != c.want.Exists || got.Disabled != c.want.Disabled || !got.CreatedAt.Equal(c.want.CreatedAt) || !got.ValidAfter.Equal(c.want.ValidAfter) {
					t.Errorf("from %s: got %+v, want %+v", from, got, c.want)
				}
				same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
				if !slices.EqualFunc(got.Columns, c.want.Columns, same) {
					t.Errorf("columns %q, want %q", got.Columns, c.want.Columns)
				}
			}
		})
	}
}

func TestALocalTimeWithoutAZoneIsNotUsedByItself(t *testing.T) {
	name := database(t, `create table users (id int primary key, created_at timestamp default now()); insert into users values (1)`)
	run(t, name, `alter database `+name+` set timezone = 'Asia/Tokyo'`)
	for _, c := range []struct {
		users Users
		used  bool
	}{{Users{}, false}, {Users{CreatedAt: "created_at"}, true}} {
		p, _ := open(t, server.DSN(name), Config{Users: c.users})
		if used := !lookup(t, p, "1").CreatedAt.IsZero(); used != c.used {
			t.Errorf("with %+v it is used: %t, want %t", c.users, used, c.used)
		}
	}
	// London is at UTC in winter only.
	run(t, name, `alter database `+name+` set timezone = 'Europe/London'`)
	p, _ := open(t, server.DSN(name), Config{})
	if !lookup(t, p, "1").CreatedAt.IsZero() {
		t.Error("used in London's time")
	}
}

func TestConfigurationsThatTheDatabaseContradicts(t *testing.T) {
	for name, c := range map[string]struct {
		schema string
		config Config
		class  Class
		says   []string
	}{
		"no users table": {`select 1`, Config{}, Schema, []string{"no users table", "users TABLE"}},
		"two tables": {
			`create table users (id int); create table "User" (id int)`, Config{}, Schema, []string{"`users public.User`", "`users public.users`"},
		},
		"a table in another case": {
			`create table users (id int)`, Config{Users: Users{Table: "Users"}}, Schema, []string{"Users", "public.users"},
		},
		"a table in a schema that is not": {
			`create table users (id int)`, Config{Users: Users{Table: "auth.users"}}, Schema, []string{"auth.users", "public.users"},
		},
		"a column in another case": {
			`create table users (id int, "createdAt" timestamptz)`, Config{Users: Users{CreatedAt: "created_at"}}, Schema, []string{"created_at", "createdAt"},
		},
		"an id column that is not": {
			`create table users (uid int)`, Config{Users: Users{Table: "users"}}, Schema, []string{`"id"`},
		},
		"an id of a type that cannot be looked up": {
			`create table users (id jsonb)`, Config{}, Schema, []string{"jsonb"},
		},
		"a time that is none": {
			`create table users (id int, created_at text)`, Config{Users: Users{CreatedAt: "created_at"}}, Schema, []string{"created_at", "text"},
		},
		"a disabled column that tells nothing": {
			`create table users (id int, disabled text)`, Config{Users: Users{Disabled: []string{"disabled"}}}, Schema, []string{"disabled", "text"},
		},
		"a match column that is not": {
			`create table users (id int, email text)`, Config{Users: Users{Match: []string{"Email"}}}, Schema, []string{"Email", "email"},
		},
		"a query that is none": {`select 1`, Config{Query: "selec"}, Schema, []string{"query"}},
		"a query without a parameter": {
			`create table users (id int)`, Config{Query: "select id from users"}, Schema, []string{"$1::text[]"},
		},
		"a query with the wrong parameter": {
			`create table users (id uuid)`, Config{Query: "select id from users where id = any($1)"}, Schema, []string{"$1::text[]::uuid[]"},
		},
		"a query without an id": {
			`create table users (uid int)`, Config{Query: "select uid from users where uid = any($1::text[]::int[])"}, Schema, []string{`"id"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, lines := open(t, server.DSN(database(t, c.schema)), c.config)
			e := failure(t, p, "1")
			if e.Class != c.class {
				t.Errorf("class %s, want %s: %v", e.Class, c.class, e)
			}
			for _, text := range c.says {
				if !strings.Contains(e.Error(), text) {
					t.Errorf("%q does not say %q", e, text)
				}
			}
			if lines.FilterMessageSnippet("cannot be looked up").Len() != 1 {
				t.Errorf("logged %v", lines.All())
			}
		})
	}
}

func TestAQueryOfOnesOwn(t *testing.T) {
	name := database(t, `create table members (mid uuid primary key, mail text, banned boolean, since timestamptz);
		insert into members values ('7d444840-9dc0-11d1-b245-5ffdce74fad2', 'a@b.c', true, '2026-05-01Z')`)
	p, _ := open(t, server.DSN(name), Config{
		Query: `select mid as id, mail, banned as disabled, since as created_at
			from members where mid = any($1::text[]::uuid[]) -- all of them
			;`,
		Users: Users{Match: []string{"mail"}},
	})
	got := lookup(t, p, "7D444840-9dc0-11d1-b245-5ffdce74fad2")
	if !got.Exists || !got.Disabled || string(got.Columns[0]) != "a@b.c" || !got.CreatedAt.Equal(time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got %+v", got)
	}
	if lookup(t, p, "7d444840-9dc0-11d1-b245-5ffdce74fad3").Exists {
		t.Error("found another")
	}
}

func TestTheIndexOnTheIDIsUsedWhateverItsType(t *testing.T) {
	for _, c := range []struct{ kind, values string }{
		{"text", "g::text"},
		{"varchar(40)", "g::text"},
		{"char(12)", "g::text"},
		{"citext", "g::text::citext"},
		{"uuid", "md5(g::text)::uuid"},
		{"int", "g"},
		{"bigint", "g"},
		{"numeric", "g"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			name := database(t, `create extension if not exists citext`,
				`create table users (id `+c.kind+` primary key)`,
				`insert into users select `+c.values+` from generate_series(1, 20000) g`, `analyze users`)
			p, _ := open(t, server.DSN(name), Config{})
			lookup(t, p, "1")
			conn, err := p.pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			subject := "1"
			if c.kind == "uuid" {
				subject = "c4ca4238-a0b9-2382-0dcc-509a6f75849b"
			}
			// For so many the planner would rather read the whole table.
			rows, err := conn.Query(t.Context(), "explain "+p.statement.Load().sql, slices.Repeat([]string{subject}, maxRecheck))
			if err != nil {
				t.Fatal(err)
			}
			plan := ""
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					t.Fatal(err)
				}
				plan += line + "\n"
			}
			if !strings.Contains(plan, "Index") || strings.Contains(plan, "Seq Scan") {
				t.Errorf("plan:\n%s", plan)
			}
		})
	}
}

func TestAnIDWithoutAnIndexIsWarnedOf(t *testing.T) {
	p, lines := open(t, server.DSN(database(t, `create table users (id int)`)), Config{})
	lookup(t, p, "1")
	if lines.FilterMessageSnippet("no index").Len() != 1 {
		t.Errorf("logged %v", lines.All())
	}
}

func TestNobodyWasEverFoundInATableThatHasRows(t *testing.T) {
	name := database(t, `create table users (id text primary key)`)
	p, lines := open(t, server.DSN(name), Config{AbsentTTL: time.Nanosecond})
	alarm := func() int { return lines.FilterMessageSnippet("no subject of the sessions").Len() }
	lookup(t, p, "a")
	if alarm() != 0 {
		t.Error("alarm about an empty table")
	}
	run(t, name, `insert into users values ('known')`)
	p.journal.doubted = time.Time{}
	lookup(t, p, "b")
	lookup(t, p, "c")
	if alarm() != 1 {
		t.Errorf("%d alarms, want 1 in the period", alarm())
	}
	lookup(t, p, "known")
	p.journal.doubted = time.Time{}
	lookup(t, p, "d")
	if alarm() != 1 {
		t.Error("alarm after a subject was found")
	}
}

func TestWhatIsKnownFromBeforeIsNotGoodEnough(t *testing.T) {
	name := database(t, `create table users (id int primary key, disabled boolean)`)
	p, _ := open(t, server.DSN(name), Config{Poll: -1})
	before := time.Now()
	look := func(since time.Time, source Source, want Account) {
		t.Helper()
		got, from, err := ask(p, "1", since)
		if err != nil || from != source || got.Exists != want.Exists || got.Disabled != want.Disabled || got.AsOf.Before(since) && from == FromCache {
			t.Errorf("since %s: %+v, %s, %v; want %+v, %s", since, got, from, err, want, source)
		}
	}
	look(time.Time{}, FromDatabase, Account{})
	look(before, FromCache, Account{})
	run(t, name, `insert into users values (1, true)`)
	look(time.Time{}, FromCache, Account{})
	look(time.Now(), FromDatabase, Account{Exists: true, Disabled: true})
	run(t, name, `update users set disabled = false`)
	look(before, FromCache, Account{Exists: true, Disabled: true})
	look(time.Now().Add(time.Minute), FromDatabase, Account{Exists: true})
	look(time.Time{}, FromCache, Account{Exists: true})
}
