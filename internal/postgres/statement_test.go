package postgres

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

func TestWhatTheColumnsSay(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 1, 12, 0, 0, 500_000_000, time.UTC)
	sessions := *DatabaseOptions{}.Rows(formats.Store{Table: "session", ID: "token", User: []string{"userId", "user_id"}, Created: []string{"createdAt"}, Ends: []string{"expiresAt", "expires_at"}}).Users
	for name, c := range map[string]struct {
		schema string
		users  Users
		want   directories.Account
	}{
		"created_at of an integer id, by itself": {
			`create table users (id int primary key, created_at timestamptz); insert into users values (1, '2026-05-01 14:00:00.5+02')`,
			Users{},
			directories.Account{Exists: true, CreatedAt: at},
		},
		"createdAt without a time zone, as Prisma writes it": {
			`create table users (id int primary key, "createdAt" timestamp(3)); insert into users values (1, '2026-05-01 12:00:00.5'); create table _prisma_migrations ()`,
			Users{},
			directories.Account{Exists: true, CreatedAt: at},
		},
		"created_at without a time zone, by somebody else": {
			`create table users (id int primary key, created_at timestamp); insert into users values (1, '2026-05-01 14:00:00.5')`,
			Users{},
			directories.Account{Exists: true},
		},
		"created_at without a time zone, whose default is UTC": {
			`create table users (id int primary key, created_at timestamp default (now() at time zone 'utc')); insert into users values (1, '2026-05-01 12:00:00.5')`,
			Users{},
			directories.Account{Exists: true, CreatedAt: at},
		},
		"created_at of a text id is ignored": {
			`create table users (id text primary key, created_at timestamptz); insert into users values ('1', '2026-05-01 12:00:00.5Z')`,
			Users{},
			directories.Account{Exists: true},
		},
		"created_at of a text id, named": {
			`create table users (id text primary key, born timestamptz); insert into users values ('1', '2026-05-01 12:00:00.5Z')`,
			Users{CreatedAt: "born"},
			directories.Account{Exists: true, CreatedAt: at},
		},
		"no time": {
			`create table users (id int primary key, created_at timestamptz, sessions_valid_after timestamptz); insert into users values (1, null, 'infinity')`,
			Users{},
			directories.Account{Exists: true},
		},
		"valid after, by itself": {
			`create table users (id text primary key, "sessionsValidAfter" timestamptz); insert into users values ('1', '2026-05-01 12:00:00.5Z')`,
			Users{},
			directories.Account{Exists: true, ValidAfter: at},
		},
		"valid after, a date, named": {
			`create table users (id text primary key, changed date); insert into users values ('1', '2026-05-01')`,
			Users{ValidAfter: "changed"},
			directories.Account{Exists: true, ValidAfter: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)},
		},
		"banned": {
			`create table "user" (id text primary key, banned boolean); insert into "user" values ('1', true)`, Users{}, directories.Account{Exists: true, Disabled: true},
		},
		"not banned": {
			`create table "user" (id text primary key, banned boolean); insert into "user" values ('1', null)`, Users{}, directories.Account{Exists: true},
		},
		"banned for good": {
			`create table "user" (id text primary key, banned boolean, "banExpires" timestamptz); insert into "user" values ('1', true, null)`, Users{}, directories.Account{Exists: true, Disabled: true},
		},
		"banned until tomorrow": {
			`create table "user" (id text primary key, banned boolean, "banExpires" timestamptz); insert into "user" values ('1', true, now() + interval '1 day')`, Users{}, directories.Account{Exists: true, Disabled: true},
		},
		"banned until yesterday": {
			`create table "user" (id text primary key, banned boolean, "banExpires" timestamptz); insert into "user" values ('1', true, now() - interval '1 day')`, Users{}, directories.Account{Exists: true},
		},
		"banned until yesterday, by a column that is named": {
			`create table users (id text primary key, banned boolean, ban_expires timestamptz); insert into users values ('1', true, now() - interval '1 day')`, Users{Disabled: []string{"banned"}}, directories.Account{Exists: true},
		},
		"banned until some minutes ago, by a clock in Tokyo": {
			`create table "user" (id text primary key, banned boolean, "banExpires" timestamp); insert into "user" values ('1', true, now() at time zone 'Asia/Tokyo' - interval '5 minutes')`, Users{}, directories.Account{Exists: true},
		},
		"not banned any more": {
			`create table "user" (id text primary key, banned boolean, "banExpires" timestamptz); insert into "user" values ('1', false, now() + interval '1 day')`, Users{}, directories.Account{Exists: true},
		},
		"a row of sessions": {
			`create table session (token text primary key, "expiresAt" timestamptz); insert into session values ('1', now() + interval '1 day')`, sessions, directories.Account{Exists: true},
		},
		"a row of sessions, of a user": {
			`create table session (token text primary key, user_id int, "createdAt" timestamptz); insert into session values ('1', 7, '2026-05-01 12:00:00.5Z')`, sessions, directories.Account{Exists: true, CreatedAt: at, Matched: [][]byte{[]byte("7")}},
		},
		"a row of sessions that have ended": {
			`create table session (token text primary key, expires_at timestamptz, banned boolean); insert into session values ('1', now() - interval '1 minute')`, sessions, directories.Account{Exists: true, Disabled: true},
		},
		"a row of sessions whose end is of no known time zone": {
			`create table session (token text primary key, "expiresAt" timestamp); insert into session values ('1', now() - interval '1 minute')`, sessions, directories.Account{Exists: true},
		},
		"a row of sessions without an end": {
			`create table session (token text primary key, banned boolean); insert into session values ('1', true)`, sessions, directories.Account{Exists: true},
		},
		"soft-deleted": {
			`create table "User" (id text primary key, "deletedAt" timestamp(3)); insert into "User" values ('1', now() - interval '1 minute')`, Users{}, directories.Account{Exists: true, Disabled: true},
		},
		"soft-deleted by a clock in Tokyo": {
			`create table users (id text primary key, deleted_at timestamp); insert into users values ('1', now() + interval '9 hours')`, Users{}, directories.Account{Exists: true, Disabled: true},
		},
		"to be deleted tomorrow, by a column that is named": {
			`create table users (id text primary key, deleted_at timestamptz); insert into users values ('1', now() + interval '1 day')`, Users{Disabled: []string{"deleted_at"}}, directories.Account{Exists: true},
		},
		"disabled by a number, one of two columns": {
			`create table users (id text primary key, state int, gone boolean); insert into users values ('1', 2, false)`, Users{Disabled: []string{"gone", "state"}}, directories.Account{Exists: true, Disabled: true},
		},
		"disabled of another type is ignored": {
			`create table users (id text primary key, disabled text); insert into users values ('1', 'yes')`, Users{}, directories.Account{Exists: true},
		},
		"columns to match": {
			`create table users (id text primary key, email text, v int, stamp uuid, none text); insert into users values ('1', 'Ada@example.com', 3, '7d444840-9dc0-11d1-b245-5ffdce74fad2', null)`,
			Users{Match: map[string]string{"a": "email", "b": "v", "c": "stamp", "d": "none"}},
			directories.Account{Exists: true, Matched: [][]byte{[]byte("Ada@example.com"), []byte("3"), []byte("7d444840-9dc0-11d1-b245-5ffdce74fad2"), nil}},
		},
		"odd names": {
			`create schema "my.schema"; create table "my.schema"."The Users" ("The ""Id" text primary key); insert into "my.schema"."The Users" values ('1')`,
			Users{Table: `"my.schema".The Users`, ID: `The "Id`},
			directories.Account{Exists: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(database(t, c.schema)), Config{Users: c.users})
			e := engine(t, d, accounts.Config{Poll: -1})
			for _, source := range []accounts.Source{accounts.FromDatabase, accounts.FromCache} {
				got, from, err := ask(e, "1", time.Time{})
				if err != nil || from != source {
					t.Fatalf("from %s: %v; want it from %s", from, err, source)
				}
				if got.Exists != c.want.Exists || got.Disabled != c.want.Disabled || !got.CreatedAt.Equal(c.want.CreatedAt) || !got.ValidAfter.Equal(c.want.ValidAfter) {
					t.Errorf("from %s: got %+v, want %+v", from, got, c.want)
				}
				same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
				if !slices.EqualFunc(got.Matched, c.want.Matched, same) {
					t.Errorf("matched %q, want %q", got.Matched, c.want.Matched)
				}
			}
		})
	}
}

func TestACustomQuery(t *testing.T) {
	t.Parallel()
	name := database(t, `create table members (mid uuid primary key, mail text, banned boolean, since timestamptz);
		insert into members values ('7d444840-9dc0-11d1-b245-5ffdce74fad2', 'a@b.c', true, '2026-05-01Z')`)
	d, _ := open(t, server.DSN(name), Config{
		Query: `select mid as id, mail, banned as disabled, since as created_at
			from members where mid = any($1::text[]::uuid[]) -- all of them
			;`,
		Users: Users{Match: map[string]string{"email": "mail"}},
	})
	got := lookup(t, d, "7D444840-9dc0-11d1-b245-5ffdce74fad2")
	if !got.Exists || !got.Disabled || string(got.Matched[0]) != "a@b.c" || !got.CreatedAt.Equal(time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got %+v", got)
	}
	if lookup(t, d, "7d444840-9dc0-11d1-b245-5ffdce74fad3").Exists {
		t.Error("found another")
	}
}

func TestTheIndexOnTheIDIsUsedWhateverItsType(t *testing.T) {
	t.Parallel()
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
			t.Parallel()
			name := database(t, `create extension if not exists citext`,
				`create table users (id `+c.kind+` primary key)`,
				`insert into users select `+c.values+` from generate_series(1, 20000) g`, `analyze users`)
			d, _ := open(t, server.DSN(name), Config{})
			lookup(t, d, "1")
			conn, err := d.pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			subject := "1"
			if c.kind == "uuid" {
				subject = "c4ca4238-a0b9-2382-0dcc-509a6f75849b"
			}
			// The engine re-checks 1000 at a time, for which the planner would
			// rather read the whole table.
			rows, err := conn.Query(t.Context(), "explain "+d.lookups.statement.Load().sql, slices.Repeat([]string{subject}, 1000))
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
