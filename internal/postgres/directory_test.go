package postgres

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
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

// ownServer starts a server for one test, with oneUser in the database postgres.
func ownServer(t testing.TB, settings ...string) *pgtest.Server {
	t.Helper()
	s := pgtest.StartFor(t, settings...)
	execute(t, s, oneUser)
	return s
}

const oneUser = `create table users (id text primary key); insert into users values ('live')`

// execute runs SQL commands in the database postgres of a server.
func execute(t testing.TB, s *pgtest.Server, commands ...string) {
	t.Helper()
	if err := s.Exec(t.Context(), "postgres", commands...); err != nil {
		t.Fatal(err)
	}
}

// database creates a database for one test.
func database(t testing.TB, commands ...string) string {
	t.Helper()
	name, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run(t, name, commands...)
	return name
}

// run runs SQL commands in a database of the shared server.
func run(t testing.TB, name string, commands ...string) {
	t.Helper()
	if err := server.Exec(t.Context(), name, commands...); err != nil {
		t.Fatal(err)
	}
}

// open opens a directory, and returns what it logs.
func open(t testing.TB, dsn string, config Config) (*Directory, *observer.ObservedLogs) {
	t.Helper()
	core, lines := observer.New(zap.DebugLevel)
	logger := zap.New(core)
	config.Logger = func() *zap.Logger { return logger }
	if config.DSN == nil {
		config.DSN = func() (string, error) { return dsn, nil }
	}
	d, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, lines
}

// lookup looks a subject up, which must not fail.
func lookup(t testing.TB, d *Directory, subject string) directories.Account {
	t.Helper()
	found, err := d.Lookup(t.Context(), []directories.Query{{Subject: []byte(subject)}})
	if err != nil {
		t.Fatalf("looking %q up: %v", subject, err)
	}
	return found[0]
}

// failure looks a subject up, which must fail.
func failure(t testing.TB, d *Directory, subject string) *directories.Error {
	t.Helper()
	found, err := d.Lookup(t.Context(), []directories.Query{{Subject: []byte(subject)}})
	return failureOf(t, found, err)
}

// failureOf returns an error as what it must be.
func failureOf(t testing.TB, found any, err error) *directories.Error {
	t.Helper()
	var e *directories.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %+v, %v; want a failure", found, err)
	}
	return e
}

const quickly = 20 * time.Millisecond

// engine puts the engine in front of a directory. Its accounts expire after an
// hour, if the test does not say otherwise.
func engine(t testing.TB, d *Directory, config accounts.Config) *accounts.Engine {
	t.Helper()
	config.Logger, config.Timeout = d.config.Logger, time.Minute
	if config.TTL == 0 {
		config.TTL, config.AbsentTTL = time.Hour, time.Hour
	}
	e := accounts.Open(d, config)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// watched is engine, and waits until the directory is watched.
func watched(t testing.TB, d *Directory, config accounts.Config) *accounts.Engine {
	t.Helper()
	e := engine(t, d, config)
	e.StartWatch()
	eventually.Holds(t, "the database is watched", func() bool { return e.Stats().Watching })
	return e
}

// ask asks an engine for an account.
func ask(e *accounts.Engine, subject string, since time.Time) (*accounts.Account, accounts.Source, error) {
	account := new(accounts.Account)
	source, err := e.Lookup(context.Background(), accounts.Query{
		Query: directories.Query{Subject: []byte(subject), Since: since}, Now: time.Now(),
	}, account)
	return account, source, err
}

func TestWhatIsKnownFromBeforeIsNotGoodEnough(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id int primary key, disabled boolean)`)
	d, _ := open(t, server.DSN(name), Config{})
	e := engine(t, d, accounts.Config{Poll: -1})
	before := time.Now()
	look := func(since time.Time, source accounts.Source, want directories.Account) {
		t.Helper()
		got, from, err := ask(e, "1", since)
		if err != nil || from != source || got.Exists != want.Exists || got.Disabled != want.Disabled || got.AsOf.Before(since) && from == accounts.FromCache {
			t.Errorf("since %s: %+v, %s, %v; want %+v, %s", since, got, from, err, want, source)
		}
	}
	look(time.Time{}, accounts.FromDatabase, directories.Account{})
	look(before, accounts.FromCache, directories.Account{})
	run(t, name, `insert into users values (1, true)`)
	look(time.Time{}, accounts.FromCache, directories.Account{})
	look(time.Now(), accounts.FromDatabase, directories.Account{Exists: true, Disabled: true})
	run(t, name, `update users set disabled = false`)
	look(before, accounts.FromCache, directories.Account{Exists: true, Disabled: true})
	look(time.Now().Add(time.Minute), accounts.FromDatabase, directories.Account{Exists: true})
	look(time.Time{}, accounts.FromCache, directories.Account{Exists: true})
}
