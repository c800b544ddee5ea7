package cleanup

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
)

var roles atomic.Int64

// asRole returns the address of a database for a new role. In commands, %s is the
// role.
func asRole(t *testing.T, dsn string, commands ...string) string {
	t.Helper()
	name := dsn[strings.LastIndex(dsn, "/")+1 : strings.Index(dsn, "?")]
	role := fmt.Sprintf("cleans%d", roles.Add(1))
	run := func(commands ...string) {
		for _, command := range commands {
			if err := server.Exec(context.Background(), name, strings.ReplaceAll(command, "%s", role)); err != nil {
				t.Error(err)
			}
		}
	}
	run(append([]string{`create role %s login`}, commands...)...)
	t.Cleanup(func() { run(`drop owned by %s`, `drop role %s`) })
	return strings.Replace(dsn, "postgres@", role+"@", 1)
}

// Of these sessions the app knows each user, or they have not expired for it.
func TestALiveSessionIsNeverDeleted(t *testing.T) {
	const (
		tables   = `create table "User" (id text primary key); create table "Session" (id text primary key, "userId" text not null, expires timestamptz not null)`
		sessions = `insert into "Session" select g::text, 'u' || g, now() + interval '1 day' from generate_series(1, 40) g`
		users    = `insert into "User" select 'u' || g from generate_series(1, 40) g`
		most     = `insert into "User" select 'u' || g from generate_series(1, 30) g`
		rest     = `insert into %s select 'u' || g from generate_series(31, 40) g`
		some     = `insert into "User" select 'u' || g from generate_series(41, 90) g`
		grants   = `grant usage on schema public to %s; grant select, delete on "Session" to %s; grant select on "User" to %s`
		hours    = `insert into "Session" select g::text, 'u' || g, now() at time zone '%s' + interval '2 hours' from generate_series(1, 40) g`
		zoneless = `alter table "Session" alter expires type timestamp`
		policy   = `alter table "User" enable row level security; create policy seen on "User" using (substr(id, 2)::int <= 24)`
	)
	for name, c := range map[string]struct {
		commands []string
		role     []string // commands for a role of its own
		config   Config
		late     time.Duration // our clock is behind
		warns    string
	}{
		"row-level security shows 60 % of the users": {
			commands: []string{tables, sessions, users, policy}, role: []string{grants},
			warns: "row-level security hides rows of",
		},
		"row-level security, and the database itself keeps the users": {
			commands: []string{tables, sessions, users, policy, `alter table "Session" add foreign key ("userId") references "User"`}, role: []string{grants},
		},
		"row-level security that is an error for the role": {
			commands: []string{tables, sessions, users, policy}, role: []string{grants, `alter role %s set row_security = off`},
			warns: "because reading them failed",
		},
		"others are in a table of the same name": {
			commands: []string{tables, sessions, most, `create schema app; create table app."User" (id text primary key)`, fmt.Sprintf(rest, `app."User"`)},
			warns:    `the user is, or was, in "app"."User"`,
		},
		"others may be in a table of the same name": {
			commands: []string{tables, sessions, most, `create schema app; create table app."User" (id text primary key)`, fmt.Sprintf(rest, `app."User"`)},
			role:     []string{grants}, warns: "which the role may not read",
		},
		"others are in another table of users": {
			commands: []string{tables, sessions, most, `create table admin_user (id text primary key)`, fmt.Sprintf(rest, "admin_user")},
			warns:    "admin_user",
		},
		"others are in another table of users than the one that is named": {
			commands: []string{tables, sessions, most, `create table admin_user (id text primary key)`, fmt.Sprintf(rest, "admin_user")},
			config:   Config{Users: postgres.Config{Users: postgres.Users{Table: "User"}}}, warns: "admin_user",
		},
		"the users table is empty":      {commands: []string{tables, sessions}, warns: "most sessions have no user"},
		"the users table is another's":  {commands: []string{tables, sessions, some}, warns: "most sessions have no user"},
		"one session, of another's":     {commands: []string{tables, `insert into "Session" values ('1', 'u1', now() + interval '1 day')`, some}, warns: "most sessions have no user"},
		"a query may omit users":        {commands: []string{tables, sessions}, config: Config{Users: postgres.Config{Query: `select 'u1'::text as id where 'u1' = any($1::text[])`}}},
		"ids in another letter case":    {commands: []string{tables, sessions, `insert into "User" select 'U' || g from generate_series(1, 40) g`}},
		"UUIDs in two spellings":        {commands: []string{tables, `alter table "User" alter id type uuid using id::uuid; insert into "User" select md5(g::text)::uuid from generate_series(1, 40) g; insert into "Session" select g::text, case when g % 2 = 0 then '{' || upper(md5(g::text)) || '}' else upper(md5(g::text)::uuid::text) end, now() + interval '1 day' from generate_series(1, 40) g`}},
		"a blank after an id":           {commands: []string{tables, `alter table "Session" alter "userId" type char(9)`, sessions, users}},
		"ids that no user can have":     {commands: []string{`create table "User" (id int primary key); create table "Session" (id text primary key, "userId" text not null, expires timestamptz not null)`, `insert into "User" select generate_series(1, 30); insert into "Session" select g::text, case when g > 30 then 'admin:' || g else g::text end, now() + interval '1 day' from generate_series(1, 40) g`}},
		"a soft deletion":               {commands: []string{tables, `alter table "User" add "deletedAt" timestamptz`, sessions, users, `update "User" set "deletedAt" = now()`}},
		"local time of Los Angeles":     {commands: []string{tables, zoneless, users, fmt.Sprintf(hours, "America/Los_Angeles")}},
		"local time of Baker Island":    {commands: []string{tables, zoneless, users, fmt.Sprintf(hours, "Etc/GMT+12")}},
		"local time of Kiritimati":      {commands: []string{tables, zoneless, users, fmt.Sprintf(hours, "Pacific/Kiritimati")}},
		"our clock is a week behind":    {commands: []string{tables, users, `insert into "Session" select g::text, 'u' || g, now() - interval '1 day' from generate_series(1, 40) g`}, late: 7 * 24 * time.Hour},
		"a session that never expires":  {commands: []string{tables, users, `insert into "Session" select g::text, 'u' || g, 'infinity' from generate_series(1, 40) g`}},
		"a session of nobody":           {commands: []string{tables, users, `alter table "Session" alter "userId" drop not null; insert into "Session" select g::text, null, now() + interval '1 day' from generate_series(1, 40) g`}},
		"a session of unknown duration": {commands: []string{tables, users, `alter table "Session" alter expires drop not null; insert into "Session" select g::text, 'u' || g, null from generate_series(1, 40) g`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			owner := database(t, c.commands...)
			dsn := owner
			if len(c.role) > 0 {
				dsn = asRole(t, owner, c.role...)
			}
			j, logs := start(t, dsn, c.config)
			j.now = func() time.Time { return time.Now().Add(-c.late) }
			for range 3 {
				if err := clean(t, j); err != nil {
					t.Fatal(err)
				}
			}
			all := 40
			if strings.HasPrefix(name, "one session") {
				all = 1
			}
			if rows := len(strings.Fields(left(t, owner, `"Session"`))); rows != all {
				t.Errorf("%d rows of %d are left", rows, all)
			}
			var warnings strings.Builder
			for _, entry := range logs.All() {
				if entry.Level >= zapcore.WarnLevel {
					fmt.Fprintln(&warnings, entry.Message, entry.ContextMap()["error"])
				}
			}
			if text := warnings.String(); c.warns == "" && text != "" || !strings.Contains(text, c.warns) {
				t.Errorf("%q is not what the log says: %s", c.warns, text)
			}
		})
	}
}

func TestExpiredSessionsAreDeletedWhoeverTheUsersAre(t *testing.T) {
	t.Parallel()
	s := schemas["the pg adapter"]
	for name, c := range map[string]struct{ query, command string }{
		"a query":       {query: `select id from users where id = any($1::text[]::int[])`},
		"a foreign key": {command: `delete from sessions where id = 3; alter table sessions add foreign key ("userId") references users`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := database(t, s.users, s.sessions, fmt.Sprintf(s.person, "1"), fmt.Sprintf(s.row, "1", "1", "1 day"),
				fmt.Sprintf(s.row, "2", "1", s.old), fmt.Sprintf(s.row, "3", "2", "1 day"), c.command)
			j, _ := start(t, dsn, Config{Users: postgres.Config{Query: c.query}})
			for range 2 {
				if err := clean(t, j); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.TrimSuffix(left(t, dsn, s.table), " 3"); got != "1" {
				t.Errorf("left: %s", got)
			}
		})
	}
}

// The users table is emptied while a run deletes: what was right for the first
// sessions is not for the others.
func TestARunStopsWhenTheUsersVanish(t *testing.T) {
	t.Parallel()
	dsn := database(t, `create table "User" (id text primary key); create table "Session" (id text primary key, "userId" text not null, expires timestamptz not null)`,
		`insert into "User" select 'u' || g from generate_series(1, 300) g`,
		`insert into "Session" select g::text, 'u' || g, now() + interval '1 day' from generate_series(1, 600) g`,
		`create function empty() returns trigger language plpgsql as $$ begin delete from "User"; return null; end $$`,
		`create trigger empty after delete on "Session" for each statement execute function empty()`)
	j, logs := start(t, dsn, Config{})
	for range 3 {
		if err := clean(t, j); err != nil {
			t.Fatal(err)
		}
	}
	if rows := len(strings.Fields(left(t, dsn, `"Session"`))); rows != 600-together {
		t.Errorf("%d rows are left", rows)
	}
	if logs.FilterMessageSnippet("vanish").Len() != 1 {
		t.Errorf("the log says %v", logs.All())
	}
}

func TestALockedTableIsLeftToTheApp(t *testing.T) {
	t.Parallel()
	s := schemas["Prisma"]
	dsn := database(t, s.users, s.sessions, fmt.Sprintf(s.person, "1"), fmt.Sprintf(s.row, "1", "1", "-1 year"))
	j, _ := start(t, dsn, Config{})
	if err := clean(t, j); err != nil { // which counts
		t.Fatal(err)
	}
	app := connect(t, dsn)
	if _, err := app.Exec(t.Context(), `begin; lock table "Session" in share row exclusive mode`); err != nil { // as a migration does
		t.Fatal(err)
	}
	if err := clean(t, j); err != nil {
		t.Error(err)
	}
	if _, err := app.Exec(t.Context(), `commit; begin; lock table "Session"`); err != nil {
		t.Fatal(err)
	}
	if err := clean(t, j); err == nil || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("error %v", err)
	}
	if _, err := app.Exec(t.Context(), `commit`); err != nil {
		t.Fatal(err)
	}
	if got := left(t, dsn, s.table); got != "1" {
		t.Errorf("left: %q", got)
	}
	if err := clean(t, j); err != nil {
		t.Error(err)
	}
	if got := left(t, dsn, s.table); got != "" {
		t.Errorf("left: %q", got)
	}
}

// A user is back, or another has the id, after the proof and before the deletion.
func TestASessionWhoseUserIsBackIsKept(t *testing.T) {
	t.Parallel()
	s := schemas["the pg adapter"]
	dsn := database(t, s.users, s.sessions, fmt.Sprintf(s.person, "1"), fmt.Sprintf(s.row, "1", "1", "1 day"), fmt.Sprintf(s.row, "2", "2", "1 day"))
	j, _ := start(t, dsn, Config{})
	conn := connect(t, dsn)
	found, err := j.find(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if found.users, found.id, err = j.users.Table(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &removal{job: j, conn: conn, sessions: found}
	absent, present, err := r.people(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gone, _, err := r.prove(t.Context(), absent.some, present.some)
	if err != nil || len(gone) != 1 {
		t.Fatalf("gone are %v, error %v", gone, err)
	}
	if _, err := connect(t, dsn).Exec(t.Context(), fmt.Sprintf(s.person, "2")); err != nil {
		t.Fatal(err)
	}
	if n, err := r.removeOrphans(t.Context(), gone); n != 0 || err != nil {
		t.Errorf("%d rows are deleted, error %v", n, err)
	}
	if got := left(t, dsn, s.table); got != "1 2" {
		t.Errorf("left: %s", got)
	}
}
