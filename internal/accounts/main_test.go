package accounts

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// server is a real Postgres, which the tests of this package share. Each has a
// database of its own, but commits in the others change its gate too.
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

// ownServer starts a server that the test may end, and runs SQL commands in its
// database postgres.
func ownServer(t testing.TB, settings []string, commands ...string) *pgtest.Server {
	t.Helper()
	s := pgtest.StartFor(t, settings...)
	if err := s.Exec(t.Context(), "postgres", commands...); err != nil {
		t.Fatal(err)
	}
	return s
}

const oneUser = `create table users (id text primary key); insert into users values ('live')`

// open opens the engine of a database, and returns the lines that it logs.
func open(t testing.TB, dsn string, config Config) (*Engine, *observer.ObservedLogs) {
	t.Helper()
	return openWith(t, dsn, postgres.Config{}, config)
}

// openWith is open with options of the database.
func openWith(t testing.TB, dsn string, options postgres.Config, config Config) (*Engine, *observer.ObservedLogs) {
	t.Helper()
	core, lines := observer.New(zap.DebugLevel)
	logger := zap.New(core)
	config.Logger = func() *zap.Logger { return logger }
	options.Logger = config.Logger
	if config.Timeout == 0 {
		config.Timeout = time.Minute // tests run on slow machines
	}
	e := Open(openPostgres(t, dsn, options), config)
	t.Cleanup(func() { closed(t, e) })
	return e, lines
}

// openPostgres opens a directory in a database.
func openPostgres(t testing.TB, dsn string, options postgres.Config) *postgres.Directory {
	t.Helper()
	options.DSN = func() (string, error) { return dsn, nil }
	d, err := postgres.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // of those that no engine closes
	return d
}

// closed closes an engine.
func closed(t testing.TB, e *Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// look looks a subject up, which must not fail.
func look(t testing.TB, e *Engine, subject string) *Account {
	t.Helper()
	account, _, err := ask(e, subject, time.Time{})
	if err != nil {
		t.Fatalf("looking %q up: %v", subject, err)
	}
	return account
}

// ask is Lookup at this time.
func ask(e *Engine, subject string, since time.Time) (*Account, Source, error) {
	account := new(Account)
	query := Query{Query: directories.Query{Subject: []byte(subject), Since: since}, Now: e.now()}
	source, err := e.Lookup(context.Background(), query, account)
	return account, source, err
}

// failure looks a subject up, which must fail, and returns the error.
func failure(t testing.TB, e *Engine, subject string) *directories.Error {
	t.Helper()
	account, _, err := ask(e, subject, time.Time{})
	var failed *directories.Error
	if !errors.As(err, &failed) {
		t.Fatalf("looking %q up gave %+v, %v; want a failure", subject, account, err)
	}
	return failed
}

// becomes waits until lookups find what they should.
func becomes(t testing.TB, e *Engine, subject string, what string, holds func(*Account) bool) {
	t.Helper()
	eventually.Holds(t, subject+" "+what, func() bool {
		account, _, err := ask(e, subject, time.Time{})
		return err == nil && holds(account)
	})
}

// inUse waits until an account is served from the cache: from then on it is one
// of those in use.
func inUse(t testing.TB, e *Engine, subject string) {
	t.Helper()
	eventually.Holds(t, subject+" is served from the cache", func() bool {
		account, source, err := ask(e, subject, time.Time{})
		if err != nil || !account.Exists {
			t.Fatalf("looking %q up: %+v, %v", subject, account, err)
		}
		return source == FromCache
	})
}

func gone(a *Account) bool     { return !a.Exists }
func here(a *Account) bool     { return a.Exists && !a.Disabled }
func disabled(a *Account) bool { return a.Exists && a.Disabled }
