package postgres

import (
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

// supabase are the tables of Supabase Auth, with the columns that count. Row-level
// security is on for them, and there is no policy.
const supabase = `create schema auth;
	create table auth.users (instance_id uuid, id uuid primary key, aud varchar(255), email varchar(255), created_at timestamptz, updated_at timestamptz,
		banned_until timestamptz, deleted_at timestamptz, is_anonymous boolean not null default false);
	create table auth.sessions (id uuid primary key, user_id uuid not null references auth.users on delete cascade);
	alter table auth.users enable row level security; alter table auth.sessions enable row level security;
	insert into auth.users (id, banned_until, deleted_at, is_anonymous) values
		('00000000-0000-4000-8000-000000000001', null, null, false), ('00000000-0000-4000-8000-000000000002', now() - interval '1 hour', null, true),
		('00000000-0000-4000-8000-000000000003', now() + interval '1 hour', null, false), ('00000000-0000-4000-8000-000000000004', 'infinity', null, false),
		('00000000-0000-4000-8000-000000000005', null, now(), false), ('00000000-0000-4000-8000-000000000006', '-infinity', null, false)`

func TestUsersOfSupabase(t *testing.T) {
	t.Parallel()
	_, dsn := role(t, database(t, supabase), `grant usage on schema auth to %s`, `grant select on auth.users to %s`, `alter role %s bypassrls`)
	d, _ := open(t, dsn, Config{Users: Users{Table: "auth.users"}})
	const id = "00000000-0000-4000-8000-00000000000"
	visit(t, engine(t, d, accounts.Config{Poll: -1}),
		visitor{subject: id + "1", want: "live"},
		visitor{subject: id + "2", want: "live"}, // the ban is over
		visitor{subject: id + "3", want: "user_disabled"},
		visitor{subject: id + "4", want: "user_disabled"}, // for ever
		visitor{subject: id + "5", want: "user_disabled"},
		visitor{subject: id + "6", want: "live"},
		visitor{subject: id + "7", want: "user_not_found"},
	)
}

// Without BYPASSRLS, a role sees no user at all, and nobody's session ends.
func TestUsersOfSupabaseThatARoleCannotSeeAreNotGone(t *testing.T) {
	t.Parallel()
	const live = "00000000-0000-4000-8000-000000000001"
	db := database(t, supabase)
	reader, dsn := role(t, db)
	d, _ := open(t, dsn, Config{Users: Users{Table: "auth.users"}})
	e := engine(t, d, accounts.Config{Poll: -1, TTL: 1})
	unproven(t, e, live, "GRANT USAGE ON SCHEMA auth TO "+reader)
	run(t, db, `grant usage on schema auth to `+reader, `grant select on auth.users to `+reader)
	unproven(t, e, live, `ALTER ROLE "`+reader+`" BYPASSRLS`, `CREATE POLICY stale_session ON auth.users FOR SELECT TO "`+reader+`" USING (true)`)
	run(t, db, `create policy stale_session on auth.users for select to `+reader+` using (true)`)
	visit(t, e, visitor{subject: live, want: "live"}, visitor{subject: "00000000-0000-4000-8000-000000000007", want: "user_not_found"})
}
