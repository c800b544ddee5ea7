package revocation

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

func TestCaddysStorageIsUsedUntilTheTableExists(t *testing.T) {
	database, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, database, `create table "User" (id text primary key)`)
	storage := NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0)
	node := func() *List {
		l := Open(Config{Shared: inPostgres(server.DSN(database))(t), Local: storage, Logger: zap.NewNop})
		t.Cleanup(func() { _ = l.Close() })
		l.Await(t.Context())
		return l
	}
	if err := node().Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, found := node().Find([]byte("ada")); !found {
		t.Error("a restarted node does not know the revocation")
	}
	execute(t, database, InstallSQL())
	other := Open(Config{Shared: inPostgres(server.DSN(database))(t), Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0), Logger: zap.NewNop})
	defer other.Close()
	other.Await(t.Context())
	eventually.Holds(t, "another node knows the revocation through the table", func() bool { _, found := other.Find([]byte("ada")); return found })
}

// The table may no longer exist when Caddy restarts.
func TestAnUndoInTheTableReachesCaddysStorage(t *testing.T) {
	database, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, database, `create table "User" (id text primary key)`)
	storage := NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0)
	node := func(local Store, before *List) *List {
		l := Open(Config{Shared: inPostgres(server.DSN(database))(t), Local: local, Logger: zap.NewNop})
		t.Cleanup(func() { _ = l.Close() })
		if before != nil {
			l.Adopt(before)
		}
		l.Await(t.Context())
		return l
	}
	a := node(storage, nil)
	if err := a.Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	execute(t, database, InstallSQL())
	b := node(NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0), nil)
	eventually.Holds(t, "another node knows the revocation through the table", func() bool { _, found := b.Find([]byte("ada")); return found })
	if err := b.Restore(t.Context(), "ada", time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the node knows the undo", func() bool { _, found := a.Find([]byte("ada")); return !found })
	node(storage, a) // reads the storage
	eventually.Holds(t, "the undo is stored", func() bool {
		all, err := storage.load(t.Context())
		return err == nil && len(all) == 1 && all[0].Restored
	})
	execute(t, database, postgres.UninstallSQL)
	if _, found := node(storage, nil).Find([]byte("ada")); found {
		t.Error("the sessions are revoked again")
	}
}

func TestAWatchedDirectoryIsSelected(t *testing.T) {
	_, open := newUsers(t)
	unwatched, err := postgres.Open(postgres.Config{DSN: func() (string, error) { return "postgres://u@127.0.0.1:1/x", nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer unwatched.Close()
	watched := open(t).(*Postgres).databases[0].Directory
	store := NewPostgres(0, nil)
	for _, step := range []struct {
		what    string
		do      func() func()
		selects *postgres.Directory
		changes bool
	}{
		{"unwatched, the first", func() func() { return store.Use(unwatched, false) }, unwatched, true},
		{"watched", func() func() { return store.Use(watched, true) }, watched, true},
		{"watched, another", func() func() { return store.Use(watched, true) }, watched, false},
	} {
		_, changed := store.current()
		release := step.do()
		defer func() {
			release()
			if d, _ := store.current(); d.Directory == nil && len(store.databases) > 0 {
				t.Error("none is selected")
			}
		}()
		if d, _ := store.current(); d.Directory != step.selects {
			t.Errorf("%s: %v is selected", step.what, d)
		}
		select {
		case <-changed:
			if !step.changes {
				t.Errorf("%s: Follow is restarted", step.what)
			}
		default:
			if step.changes {
				t.Errorf("%s: Follow is not restarted", step.what)
			}
		}
	}
}

func TestUninstallDropsTheTable(t *testing.T) {
	database, _ := newUsers(t)
	execute(t, database, InstallSQL("postgres"), postgres.UninstallSQL)
	if err := server.Exec(t.Context(), database, "create schema stale_session", "select 1 from stale_session.revocations"); err == nil {
		t.Error("the table exists")
	}
}

func TestTheTableIsExamined(t *testing.T) {
	database, _ := newUsers(t)
	execute(t, database, `create role stranger_to_revocations login`)
	t.Cleanup(func() {
		execute(t, database, `drop owned by stranger_to_revocations`, `drop role stranger_to_revocations`)
	})
	stranger := strings.Replace(server.DSN(database), "postgres@", "stranger_to_revocations@", 1)
	empty, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what, dsn string
		do        []string
		found     bool
		says      string
	}{
		{"no table", server.DSN(empty), nil, false, ""},
		{"the owner", server.DSN(database), nil, true, ""},
		{"a role without rights", stranger, nil, true, "install --grant stranger_to_revocations"},
		{"a role that may only read", stranger, []string{`grant usage on schema stale_session to stranger_to_revocations`, `grant select on stale_session.revocations to stranger_to_revocations`}, true, "install --grant stranger_to_revocations"},
		{"a role with all rights", stranger, []string{InstallSQL("stranger_to_revocations")}, true, ""},
		{"a table of an earlier version", server.DSN(database), []string{`alter table stale_session.revocations drop column users cascade`}, true, "`caddy stale-session install` again"},
	} {
		execute(t, database, step.do...)
		d, err := postgres.Open(at(step.dsn))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		found, err := ExaminePostgres(t.Context(), d)
		if found != step.found || (err == nil) != (step.says == "") || err != nil && !strings.Contains(err.Error(), step.says) {
			t.Errorf("%s: found %t, %v", step.what, found, err)
		}
	}
}

// A pooler refuses the timeouts of a session. Whatever follows the table must not
// wait for a server that does not answer, nor keep a connection for lookups.
func TestATableThatCannotBeReadIsReported(t *testing.T) {
	database, _ := newUsers(t)
	d, err := postgres.Open(at(server.DSN(database) + "&pgbouncer=true"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	store := NewPostgres(0, nil)
	store.Use(d, true)
	conn, err := pgx.Connect(t.Context(), server.DSN(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "begin; lock table stale_session.revocations"); err != nil {
		t.Fatal(err)
	}
	l := Open(Config{Shared: store, Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0), Logger: zap.NewNop})
	defer l.Close()
	l.Await(t.Context())
	eventually.Holds(t, "the list is out of sync", l.OutOfSync)
}
