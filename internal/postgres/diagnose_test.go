package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// finds fails unless a finding of a level contains each text.
func finds(t *testing.T, found []directories.Finding, level directories.Level, says ...string) {
	t.Helper()
	if !slices.ContainsFunc(found, func(f directories.Finding) bool {
		return f.Level == level && !slices.ContainsFunc(says, func(text string) bool { return !strings.Contains(f.Text+"\n"+f.Remedy, text) })
	}) {
		t.Errorf("no finding of level %v says %q; found:", level, says)
		for _, f := range found {
			t.Errorf("%v: %s\n\t%s", f.Level, f.Text, f.Remedy)
		}
	}
}

// The doctor names what is not proven, and the line that proves it.
func TestTheDoctorNamesTheMissingProof(t *testing.T) {
	t.Parallel()
	const good, note, bad = directories.Good, directories.Note, directories.Bad
	for name, c := range map[string]struct {
		schema   string
		commands []string // with %s for the role that looks; none for the owner
		users    Users
		level    directories.Level
		says     []string
	}{
		"ids that are unique for some rows only": {
			schema: `create table users (id text, email text, "deletedAt" timestamptz); create unique index on users (email) where "deletedAt" is null`,
			users:  Users{Table: "users", ID: "email"}, level: note,
			says: []string{`two rows`, `"email"`, `CREATE UNIQUE INDEX`},
		},
		"email addresses without an index that ignores case": {
			schema: `create table users (email text primary key); insert into users values ('ada@example.com')`,
			users:  Users{ID: "email"}, level: note, says: []string{"email addresses", `CREATE INDEX CONCURRENTLY ON "public"."users" (lower("email"))`},
		},
		"row-level security": {
			schema:   `create table users (id text primary key); alter table users enable row level security`,
			commands: []string{`grant select on users to %s`}, level: bad,
			says: []string{"row-level security", "BYPASSRLS", `CREATE POLICY stale_session ON public.users FOR SELECT TO "%s" USING (true)`},
		},
		"a view that omits rows behind a policy": {
			schema:   `create table people (id text primary key); alter table people enable row level security; alter table people force row level security; create view users as select * from people`,
			commands: []string{`grant select on users to %s`, `create role %s_owner`, `grant select on people to %s_owner`, `alter view users owner to %s_owner`},
			users:    Users{Table: "users"}, level: bad, says: []string{"row-level security", "BYPASSRLS"},
		},
		"a view that was found": {
			schema: `create table people (id text primary key); create view users as select * from people`, level: bad, says: []string{"is not a table", "`users public.users`"},
		},
		"a materialized view": {
			schema: `create table people (id text primary key); create materialized view users as select * from people`, users: Users{Table: "users"}, level: bad,
			says: []string{"materialized view", "the app's own database"},
		},
		"a table of the same name": {
			schema: `create table users (id text primary key); create table posts (author text references users); create schema app; create table app.users (id text primary key)`,
			level:  note, says: []string{`"public"."users" (foreign keys to it: 1) may not be`, `"app"."users" (foreign keys to it: 0)`, "`users public.users`", "`users app.users`"},
		},
		"a table of the same name that the role may not read": {
			schema:   `create table users (id text primary key); create schema app; create table app.users (id text primary key)`,
			commands: []string{`grant select on users to %s`}, level: note, says: []string{`"app"."users"`, "`users app.users`"},
		},
		"a time without a zone": {
			schema: `create table users (id int primary key, created_at timestamp)`, level: note,
			says: []string{`"created_at" has no time zone`, "no session is compared with it", "TYPE timestamptz", "add `created_at created_at` to the block of `users`"},
		},
		"a time without a zone that is named": {
			schema: `create table users (id text primary key, signed_out timestamp)`, users: Users{ValidAfter: "signed_out"}, level: note,
			says: []string{`"signed_out" has no time zone`, "read as UTC", "TYPE timestamptz"},
		},
		"a role with few connections": {
			schema:   `create table users (id text primary key)`,
			commands: []string{`grant select on users to %s`, `alter role %s connection limit 2`}, level: note, says: []string{"2 connections", "ALTER ROLE", "CONNECTION LIMIT"},
		},
		"nothing amiss": {
			schema: `create table users (id text primary key, created_at timestamptz); insert into users values ('ada')`, level: good, says: []string{"users are looked up in"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, c.schema)
			dsn, who := server.DSN(db), "postgres"
			if c.commands != nil {
				who, dsn = role(t, db, c.commands...)
			}
			d, _ := open(t, dsn, Config{Users: c.users})
			for i := range c.says {
				c.says[i] = strings.ReplaceAll(c.says[i], "%s", who)
			}
			found := d.Diagnose(t.Context())
			finds(t, found, c.level, c.says...)
			if c.level == good && slices.ContainsFunc(found, func(f directories.Finding) bool { return f.Level == bad }) {
				t.Errorf("found %v", found)
			}
		})
	}
}

func TestTheDoctorComparesTheTwoAddresses(t *testing.T) {
	t.Parallel()
	db, other := database(t, `create table users (id text primary key, "deletedAt" timestamptz)`), database(t, `create table users (id text primary key)`)
	_, restricted := role(t, db, `grant select (id) on users to %s`)
	_, blind := role(t, db)
	for name, c := range map[string]struct{ listen, says string }{
		"another database":         {server.DSN(other), "not the same database"},
		"a role that reads less":   {restricted, "the same rights"},
		"a role that reads no row": {blind, "GRANT SELECT"},
		"no server":                {"postgres://postgres@127.0.0.1:1/postgres", "listen_database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(db), Config{ListenDSN: func() (string, error) { return c.listen, nil }})
			finds(t, d.Diagnose(t.Context()), directories.Bad, "active users are not re-checked", c.says)
		})
	}
}

func TestTheDoctorTriesListenDatabaseWhileDatabaseFails(t *testing.T) {
	t.Parallel()
	const nobody = "postgres://postgres@127.0.0.1:1/postgres?sslmode=disable"
	direct, empty := server.DSN(database(t, oneUser)), server.DSN(database(t))
	for name, c := range map[string]struct {
		database, listen string
		level            directories.Level
		says             string
	}{
		"it answers":                        {nobody, direct, directories.Good, "`listen_database` answers"},
		"neither answers":                   {nobody, strings.Replace(nobody, ":1/", ":2/", 1), directories.Bad, "no connection to `listen_database`"},
		"the database has no users table":   {empty, strings.Replace(nobody, ":1/", ":2/", 1), directories.Bad, "no connection to `listen_database`"},
		"the database fails, with no other": {nobody, "", directories.Bad, "no connection to the database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var config Config
			if c.listen != "" {
				config.ListenDSN = func() (string, error) { return c.listen, nil }
			}
			d, _ := open(t, c.database, config)
			finds(t, d.Diagnose(t.Context()), c.level, c.says)
		})
	}
}

func TestTheDoctorTriesThePrimaryOfAStandby(t *testing.T) {
	t.Parallel()
	primary, standby := replicated(t)
	alone, _ := open(t, standby.DSN("postgres"), Config{})
	both, _ := open(t, "postgres://postgres@"+standby.Address()+","+primary.Address()+"/postgres?sslmode=disable", Config{})
	finds(t, alone.Diagnose(t.Context()), directories.Note, "it is a standby", "host=standby,primary")
	finds(t, both.Diagnose(t.Context()), directories.Good, "the primary answers")
	if _, err := alone.InstallSQL(t.Context()); err == nil || !strings.Contains(err.Error(), "give the address of the primary") {
		t.Errorf("installing on a standby: %v", err)
	}
	if err := primary.Stop(); err != nil {
		t.Fatal(err)
	}
	finds(t, both.Diagnose(t.Context()), directories.Bad, "the primary is not available")
}
