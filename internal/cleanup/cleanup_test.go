package cleanup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

var server *pgtest.Server

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(func(s *pgtest.Server) int {
		server = s
		return m.Run()
	}))
}

// database creates a database, and returns its address.
func database(t *testing.T, commands ...string) string {
	t.Helper()
	name, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Exec(t.Context(), name, commands...); err != nil {
		t.Fatal(err)
	}
	return server.DSN(name)
}

// start starts a job that does not run by itself.
func start(t *testing.T, dsn string, config Config) (*Job, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	logger := zap.New(core)
	config.Every, config.Logger = 1000*time.Hour, func() *zap.Logger { return logger }
	config.Users.DSN, config.Users.Logger, config.Users.AllRivals = func() (string, error) { return dsn, nil }, config.Logger, true
	if config.Storage == nil {
		config.Storage = &certmagic.FileStorage{Path: t.TempDir()}
	}
	j, err := Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j, logs
}

// clean runs a job on a connection.
func clean(t *testing.T, j *Job) error {
	t.Helper()
	conn, err := j.users.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	s, err := j.find(t.Context(), conn)
	if err != nil {
		return err
	}
	return j.clean(t.Context(), conn, s)
}

// left returns the ids of the remaining sessions.
func left(t *testing.T, dsn, table string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), "select id::text from "+table+" order by 1")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(ids, " ")
}

// schemas are the tables of Prisma, the pg adapter of Auth.js and Better Auth. Of
// row, %[1]s is the id, %[2]s the user and %[3]s when it expires. Old is when it must have
// expired to be deleted: later if its time may be of any zone.
var schemas = map[string]struct{ users, table, sessions, row, person, old string }{
	"Prisma": {
		`create table "User" (id text primary key)`, `"Session"`,
		`create table "Session" (id text primary key, "sessionToken" text unique, "userId" text not null, expires timestamp(3) not null)`,
		`insert into "Session" values ('%[1]s', '%[1]s', '%[2]s', (now() at time zone 'utc') + interval '%[3]s')`,
		`insert into "User" values ('%s')`, "-14 hours",
	},
	"the pg adapter": {
		`create table users (id serial primary key)`, "sessions",
		`create table sessions (id serial primary key, "userId" integer not null, expires timestamptz not null, "sessionToken" varchar not null)`,
		`insert into sessions values (%[1]s, %[2]s, now() + interval '%[3]s', '%[1]s')`,
		`insert into users values (%s)`, "-2 hours",
	},
	"Better Auth, other types": {
		`create table "user" (id uuid primary key)`, "session",
		`create table session (id text primary key, "userId" text not null, "expiresAt" timestamp not null)`,
		`insert into session values ('%[1]s', '00000000-0000-0000-0000-00000000000%[2]s', (now() at time zone 'utc') + interval '%[3]s')`,
		`insert into "user" values ('00000000-0000-0000-0000-00000000000%s')`, "-14 hours",
	},
}

func TestExpiredAndOrphanedSessionsAreRemoved(t *testing.T) {
	for name, s := range schemas {
		for _, zone := range []string{"UTC", "America/New_York"} {
			t.Run(name+", "+zone, func(t *testing.T) {
				dsn := database(t, s.users, s.sessions, fmt.Sprintf(s.person, "1"),
					fmt.Sprintf(s.row, "1", "1", "1 day"),       // stays
					fmt.Sprintf(s.row, "2", "1", "-30 minutes"), // stays: within the grace
					fmt.Sprintf(s.row, "3", "1", s.old),         // expired
					fmt.Sprintf(s.row, "4", "2", "1 day"),       // orphaned
					fmt.Sprintf(s.row, "5", "2", "-1 year"),     // both
				) + "&timezone=" + zone
				var expired, orphaned int64
				j, logs := start(t, dsn, Config{Removed: func(e, o int64) { expired, orphaned = e, o }})
				if err := clean(t, j); err != nil {
					t.Fatal(err)
				}
				if got := left(t, dsn, s.table); got != "1 2 3 4 5" {
					t.Errorf("after the first run, which counts: %s", got)
				}
				entry := logs.FilterMessage("session cleanup would delete").All()
				if len(entry) != 1 || entry[0].ContextMap()["expired"] != int64(2) || entry[0].ContextMap()["orphaned"] != int64(1) {
					t.Errorf("it counts %v", entry)
				}
				if users := fmt.Sprint(entry[0].ContextMap()["some_users_gone"]); !strings.HasSuffix(users, "2]") {
					t.Errorf("it names the users %s", users)
				}
				if err := clean(t, j); err != nil {
					t.Fatal(err)
				}
				if got := left(t, dsn, s.table); got != "1 2" {
					t.Errorf("after the second run: %s", got)
				}
				if expired != 2 || orphaned != 1 {
					t.Errorf("%d expired and %d orphaned ones are counted", expired, orphaned)
				}
			})
		}
	}
}

func TestOrphansAreKeptIfTheyAreMostRows(t *testing.T) {
	s := schemas["Prisma"]
	many := `insert into "Session" select g::text, g::text, 'u' || g, (now() at time zone 'utc') + interval '1 day' from generate_series(1, 40) g`
	for name, c := range map[string]struct {
		people string
		warns  bool
	}{
		"no users at all":         {`select`, true},
		"most users are gone":     {`insert into "User" select 'u' || g from generate_series(1, 10) g`, true},
		"fewer than half of them": {`insert into "User" select 'u' || g from generate_series(1, 30) g`, false},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := database(t, s.users, s.sessions, many, c.people)
			j, logs := start(t, dsn, Config{})
			for range 2 {
				if err := clean(t, j); err != nil {
					t.Fatal(err)
				}
			}
			rows := len(strings.Fields(left(t, dsn, s.table)))
			warned := logs.FilterMessageSnippet("most sessions have no user").Len() > 0
			if warned != c.warns || (rows == 40) != c.warns {
				t.Errorf("%d rows are left, warned: %t", rows, warned)
			}
		})
	}
}

func TestManyRowsAreDeletedInBatches(t *testing.T) {
	s := schemas["Prisma"]
	dsn := database(t, s.users, s.sessions, `insert into "User" values ('1')`,
		`insert into "Session" select g::text, g::text, '1', (now() at time zone 'utc') - interval '1 day' from generate_series(1, 1700) g`)
	j, _ := start(t, dsn, Config{})
	for range 2 {
		if err := clean(t, j); err != nil {
			t.Fatal(err)
		}
	}
	if got := left(t, dsn, s.table); got != "" {
		t.Errorf("left: %s", got)
	}
}

func TestADryRunOnlyCounts(t *testing.T) {
	s := schemas["Prisma"]
	dsn := database(t, s.users, s.sessions, fmt.Sprintf(s.person, "1"), fmt.Sprintf(s.row, "1", "1", "-1 year"))
	j, _ := start(t, dsn, Config{DryRun: true})
	for range 3 {
		if err := clean(t, j); err != nil {
			t.Fatal(err)
		}
	}
	if got := left(t, dsn, s.table); got != "1" {
		t.Errorf("left: %q", got)
	}
}

func TestOneNodeCleansUp(t *testing.T) {
	s := schemas["Prisma"]
	dsn := database(t, s.users, s.sessions, fmt.Sprintf(s.person, "1"), fmt.Sprintf(s.row, "1", "1", "-1 year"))
	one, _ := start(t, dsn, Config{})
	other, logs := start(t, dsn, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- one.run(ctx) }() // holds the lock for a while
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for deadline, held := time.Now().Add(time.Minute), false; !held; {
		if err := conn.QueryRow(t.Context(), "select exists (select from pg_locks where locktype = 'advisory' and granted)").Scan(&held); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the lock is not taken")
		}
	}
	if err := other.run(t.Context()); err != nil {
		t.Error(err)
	}
	if done := logs.FilterMessageSnippet("session cleanup").All(); len(done) > 0 {
		t.Errorf("the other node has done something: %v", done)
	}
	cancel()
	if err := <-done; err != nil && ctx.Err() == nil {
		t.Error(err)
	}
	eventually.Holds(t, "neither is connected between its runs", func() bool {
		var connected bool
		if err := conn.QueryRow(t.Context(), "select exists (select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend')").Scan(&connected); err != nil {
			t.Fatal(err)
		}
		return !connected
	})
}

// TestTwoTablesOfADatabaseAreBothCleanedUp runs two jobs at the same time, as two
// sites do that share a database.
func TestTwoTablesOfADatabaseAreBothCleanedUp(t *testing.T) {
	dsn := database(t, schemas["Prisma"].users, schemas["Prisma"].sessions, schemas["the pg adapter"].sessions, `insert into "User" values ('1')`)
	for _, table := range []string{"Session", "sessions"} {
		j, logs := start(t, dsn, Config{Sessions: table})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- j.run(ctx) }()
		eventually.Holds(t, table+" is looked at", func() bool { return logs.FilterMessage("session cleanup would delete").Len() > 0 })
		defer func() { // it holds its lock until then
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
	}
}

func TestASessionThatIsRenewedMeanwhileIsKept(t *testing.T) {
	s := schemas["Prisma"]
	dsn := database(t, s.users, s.sessions, fmt.Sprintf(s.person, "1"), fmt.Sprintf(s.row, "1", "1", s.old), fmt.Sprintf(s.row, "2", "1", s.old))
	j, _ := start(t, dsn, Config{})
	if err := clean(t, j); err != nil { // which counts
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		commits bool
		left    string
	}{
		{"somebody holds the row for long, but not the other one", false, "1"},
		{"and somebody else renews it", true, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if j.wait = 100 * time.Millisecond; c.commits {
				j.wait = time.Minute
			}
			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), `update "Session" set expires = expires + interval '1 day' where id = '1'`); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- clean(t, j) }()
			if c.commits {
				watcher, err := pgx.Connect(t.Context(), dsn)
				if err != nil {
					t.Fatal(err)
				}
				defer watcher.Close(context.Background())
				for deadline, waits := time.Now().Add(time.Minute), false; !waits; {
					if err := watcher.QueryRow(t.Context(), "select exists (select from pg_locks where not granted)").Scan(&waits); err != nil {
						t.Fatal(err)
					}
					if time.Now().After(deadline) {
						t.Fatal("the cleanup does not wait for the row")
					}
				}
				if err := tx.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			_ = tx.Rollback(t.Context()) // if it was not committed
			if got := left(t, dsn, s.table); got != c.left {
				t.Errorf("left: %s, want %s", got, c.left)
			}
		})
	}
}

func TestSessionsTables(t *testing.T) {
	users := `create table "User" (id text primary key)`
	for name, c := range map[string]struct {
		commands []string
		sessions string
		says     string
	}{
		"none":           {[]string{users}, "", "no sessions table found"},
		"two":            {[]string{users, schemas["Prisma"].sessions, schemas["the pg adapter"].sessions}, "", "could be the sessions table"},
		"one of two":     {[]string{users, schemas["Prisma"].sessions, schemas["the pg adapter"].sessions}, "Session", ""},
		"another schema": {[]string{users, `create schema app`, strings.Replace(schemas["Prisma"].sessions, `"Session"`, `app."Session"`, 1)}, "app.Session", ""},
		"another table":  {[]string{users}, "User", "User is not a sessions table"},
		"no users":       {[]string{schemas["Prisma"].sessions}, "", "no users table"},
		"partitions":     {[]string{users, `create table "Session" (id text, "userId" text, expires timestamptz) partition by list (id)`}, "", "no sessions table found"},
	} {
		t.Run(name, func(t *testing.T) {
			j, _ := start(t, database(t, c.commands...), Config{Sessions: c.sessions})
			err := clean(t, j)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

func TestAJobStopsWhileTheServerHangs(t *testing.T) {
	s, err := pgtest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := schemas["Prisma"]
	if err := s.Exec(t.Context(), "postgres", c.users, c.sessions); err != nil {
		t.Fatal(err)
	}
	j, err := Start(Config{
		Users: postgres.Config{DSN: func() (string, error) { return s.DSN("postgres"), nil }, Logger: zap.NewNop},
		Every: 1000 * time.Hour, Logger: zap.NewNop, Storage: &certmagic.FileStorage{Path: t.TempDir()},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stop := j.stop
	j.stop = func() { cancel(); stop() }
	j.ended.Go(func() { _ = j.run(ctx) })
	eventually.Holds(t, "the run holds its lock", func() bool {
		conn, err := pgx.Connect(t.Context(), s.DSN("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		var holds bool
		if err := conn.QueryRow(t.Context(), "select exists (select from pg_locks where locktype = 'advisory')").Scan(&holds); err != nil {
			t.Fatal(err)
		}
		return holds
	})
	resume, err := s.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- j.Close() }()
	select {
	case err = <-closed:
	case <-time.After(time.Minute):
		err = errors.New("it waits for the server")
	}
	if err := errors.Join(err, resume()); err != nil {
		t.Error(err)
	}
}

func TestAJobStopsWhenItIsClosed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	j, err := Start(Config{
		Users: postgres.Config{DSN: func() (string, error) { return server.DSN("postgres"), nil }, Logger: zap.NewNop},
		Every: time.Hour, Logger: zap.NewNop,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}
