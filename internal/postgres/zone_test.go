package postgres

import (
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

// They signed up ten hours ago, and have signed in half an hour after that. What is
// in local time seems newer than that if it is taken for UTC.
func TestATimeWithoutAZoneEndsNobodyByItself(t *testing.T) {
	t.Parallel()
	const tokyo = `set timezone = 'Asia/Tokyo'; insert into users values (1, now() - interval '10 hours')`
	const berlin = `create table users (id int primary key, created_at timestamp); insert into users values (1, now() at time zone 'Europe/Berlin' - interval '10 hours')`
	const local = `create table users (id int primary key, created_at timestamp default now())`
	const prisma = `create table _prisma_migrations (); `
	for name, c := range map[string]struct {
		schema   string
		commands []string // with %s for another role
	}{
		"local time, as node-postgres writes it": {schema: berlin},
		"the app's role is in Tokyo": {
			schema: local, commands: []string{`alter role %s set timezone = 'Asia/Tokyo'`, `grant insert on users to %s`, tokyo},
		},
		"the app's role is in Tokyo, with Prisma": {
			schema: prisma + local, commands: []string{`alter role %s set timezone = 'Asia/Tokyo'`, `grant insert on users to %s`, tokyo},
		},
		"the app's role is in Tokyo in this database, with Prisma": {
			schema: prisma + local, commands: []string{`do $$ begin execute format('alter role %s in database %I set timezone = ''Asia/Tokyo''', current_database()); end $$`, `alter table users owner to %s`, tokyo},
		},
		"the database is in Tokyo, with Prisma": {
			schema: prisma + local, commands: []string{`do $$ begin execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database()); end $$`, tokyo},
		},
		"in London it is UTC in winter only": {
			schema: prisma + berlin, commands: []string{`do $$ begin execute format('alter database %I set timezone = ''Europe/London''', current_database()); end $$`},
		},
		"Prisma in another schema": {schema: `create schema other; create table other._prisma_migrations (); ` + berlin},
		"a date":                   {schema: `create table users (id int primary key, created_at date); insert into users values (1, current_date + 1)`},
		"a last sign-out": {
			schema: `create table users (id text primary key, sessions_valid_after timestamp); insert into users values ('1', now() at time zone 'Asia/Tokyo' - interval '10 hours')`,
		},
		"a domain of local time": {
			schema: `create domain moment as timestamp; create table users (id int primary key, created_at moment); insert into users values (1, now() at time zone 'Asia/Tokyo' - interval '10 hours')`,
		},
		"with a zone, in Tokyo": {
			schema:   `create table users (id int primary key, created_at timestamptz default now())`,
			commands: []string{`do $$ begin execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database()); end $$`, tokyo},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, c.schema)
			role(t, db, c.commands...)
			d, _ := open(t, server.DSN(db), Config{})
			visit(t, engine(t, d, accounts.Config{Poll: -1}), visitor{subject: "1", age: 9*time.Hour + 30*time.Minute, want: "live"})
		})
	}
}

// A server in Tokyo writes its own time, although the role that looks, or the
// address, is in UTC.
func TestTheZoneOfTheServerCounts(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "timezone=Asia/Tokyo")
	execute(t, s, `drop table users; create table users (id int primary key, created_at timestamp default now()); create table _prisma_migrations (); insert into users values (1, now() - interval '10 hours')`,
		`create role looks login`, `grant select on users to looks`, `alter role looks set timezone = 'UTC'`)
	for _, dsn := range []string{s.DSN("postgres"), "postgres://looks@" + s.Address() + "/postgres?sslmode=disable", s.DSN("postgres") + "&timezone=UTC"} {
		d, _ := open(t, dsn, Config{})
		visit(t, engine(t, d, accounts.Config{Poll: -1}), visitor{subject: "1", age: 9*time.Hour + 30*time.Minute, want: "live"})
	}
}

// These are newer than the token.
func TestATimeWhoseZoneIsProvenEndsASession(t *testing.T) {
	t.Parallel()
	const prisma = `create table _prisma_migrations (); create table users (id int primary key, created_at timestamp(3) default now())`
	for name, c := range map[string]struct {
		schema   string
		commands []string // with %s for another role
	}{
		"with a zone":           {schema: `create table users (id int primary key, created_at timestamptz default now())`},
		"with a zone, a domain": {schema: `create domain moment as timestamptz; create domain born as moment; create table users (id int primary key, created_at born default now())`},
		"a default of UTC": {
			schema:   `create table users (id int primary key, created_at timestamp default timezone('utc', now()))`,
			commands: []string{`alter role %s set timezone = 'Asia/Tokyo'`, `grant insert on users to %s`},
		},
		"a default of UTC, in other words":        {schema: `create table users (id int primary key, created_at timestamp default (now() at time zone 'UTC'))`},
		"Prisma":                                  {schema: prisma},
		"Prisma, and a role that does not write":  {schema: prisma, commands: []string{`alter role %s set timezone = 'Asia/Tokyo'`, `grant select on users to %s`}},
		"Prisma, and roles in UTC by other names": {schema: prisma, commands: []string{`alter role %s set timezone = 'Etc/UTC'`, `grant insert on users to %s`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, c.schema)
			role(t, db, append(c.commands, `insert into users values (1)`)...)
			d, _ := open(t, server.DSN(db), Config{})
			visit(t, engine(t, d, accounts.Config{Poll: -1}), visitor{subject: "1", want: "token_predates_account"})
		})
	}
}

// Apps filter `"deletedAt" IS NULL`, whatever the time is.
func TestASoftDeletedUserIsDeletedAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema string
		users  Users
		want   string
	}{
		"by now() in Tokyo":                {`create table users (id text primary key, "deletedAt" timestamp); set timezone = 'Asia/Tokyo'; insert into users values ('1', now())`, Users{}, "user_disabled"},
		"with a zone, tomorrow":            {`create table users (id text primary key, deleted_at timestamptz); insert into users values ('1', now() + interval '1 day')`, Users{}, "user_disabled"},
		"a date":                           {`create table users (id text primary key, deleted_at date); insert into users values ('1', current_date + 1)`, Users{}, "user_disabled"},
		"for ever":                         {`create table users (id text primary key, deleted_at timestamptz); insert into users values ('1', 'infinity')`, Users{}, "user_disabled"},
		"banned, with a domain":            {`create domain moment as timestamp; create table users (id text primary key, "bannedAt" moment); insert into users values ('1', now() + interval '9 hours')`, Users{}, "user_disabled"},
		"not deleted":                      {`create table users (id text primary key, "deletedAt" timestamp); insert into users values ('1', null)`, Users{}, "live"},
		"named, and to come":               {`create table users (id text primary key, expires timestamptz); insert into users values ('1', now() + interval '1 day')`, Users{Disabled: []string{"expires"}}, "live"},
		"named, and past":                  {`create table users (id text primary key, expires timestamptz); insert into users values ('1', now() - interval '1 day')`, Users{Disabled: []string{"expires"}}, "user_disabled"},
		"named, of a well-known name":      {`create table users (id text primary key, "deletedAt" timestamptz); insert into users values ('1', now() + interval '1 day')`, Users{Disabled: []string{"deletedAt"}}, "live"},
		"by one of two that were found":    {`create table users (id text primary key, banned boolean, "deletedAt" timestamp); insert into users values ('1', false, now() + interval '9 hours')`, Users{}, "user_disabled"},
		"in a view":                        {`create table people (id text primary key, "deletedAt" timestamp); create view users as select * from people; insert into people values ('1', now() + interval '9 hours')`, Users{Table: "users"}, "user_disabled"},
		"in a partition of another column": {`create table users (id text, "deletedAt" timestamp, primary key (id)) partition by hash (id); create table users_0 partition of users for values with (modulus 1, remainder 0); insert into users values ('1', now() + interval '9 hours')`, Users{}, "user_disabled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(database(t, c.schema)), Config{Users: c.users})
			visit(t, engine(t, d, accounts.Config{Poll: -1}), visitor{subject: "1", want: c.want})
		})
	}
}
