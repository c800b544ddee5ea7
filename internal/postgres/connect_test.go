package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

func TestASessionOnlyReads(t *testing.T) {
	t.Parallel()
	d, _ := open(t, server.DSN(database(t, oneUser)), Config{})
	lookup(t, d, "live")
	if _, err := d.pool.Exec(t.Context(), `delete from users`); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("deleting: %v", err)
	}
}

// rotating is a role whose password changes.
type rotating struct {
	server   *pgtest.Server
	password atomic.Value // that the addresses have
}

// newRotating starts a server that lets a role in by its password only.
func newRotating(t *testing.T) *rotating {
	t.Helper()
	r := &rotating{server: ownServer(t, "password_encryption=scram-sha-256")}
	r.password.Store("first")
	execute(t, r.server, `create role app login password 'first'`, `grant select, delete on users to app`)
	hba := filepath.Join(filepath.Dir(r.server.LogFile()), "data", "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("host all postgres all trust\nhost all all all scram-sha-256\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	execute(t, r.server, `select pg_reload_conf()`)
	return r
}

// dsn returns the address with the password that it has now.
func (r *rotating) dsn() (string, error) {
	return "postgres://app:" + r.password.Load().(string) + "@" + r.server.Address() + "/postgres?sslmode=disable", nil
}

// superuser returns an address whose password does not change.
func (r *rotating) superuser() (string, error) { return r.server.DSN("postgres"), nil }

// rotate changes the password of the role, but not of the addresses, and ends
// its connections.
func (r *rotating) rotate(t *testing.T) {
	t.Helper()
	execute(t, r.server, `alter role app password 'second'`, `select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'`)
	eventually.Holds(t, "its connections have ended", func() bool {
		return r.server.Exec(t.Context(), "postgres", `do $$ begin assert not exists (select from pg_stat_activity where usename = 'app'); end $$`) == nil
	})
}

func TestAPasswordThatChangesIsReadAgain(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, err error) {
		t.Helper()
		if e := failureOf(t, nil, err); e.Class != directories.Refused || e.Code != "28P01" {
			t.Errorf("with the old password: %v", err)
		}
	}
	t.Run("of database, for lookups", func(t *testing.T) {
		t.Parallel()
		r := newRotating(t)
		d, _ := open(t, "", Config{DSN: r.dsn})
		e := engine(t, d, accounts.Config{TTL: time.Nanosecond, Poll: -1}) // nothing is cached
		if _, _, err := ask(e, "live", time.Time{}); err != nil {
			t.Fatal(err)
		}
		r.rotate(t)
		if _, source, err := ask(e, "live", time.Time{}); err != nil || source != accounts.FromFallback {
			t.Errorf("with the old password: %s, %v", source, err)
		}
		refused(t, failure(t, d, "live"))
		r.password.Store("second")
		lookup(t, d, "live")
		eventually.Holds(t, "the engine asks again", func() bool {
			_, source, err := ask(e, "live", time.Time{})
			return err == nil && source == accounts.FromDatabase
		})
	})
	t.Run("of listen_database, for the watch", func(t *testing.T) {
		t.Parallel()
		r := newRotating(t)
		d, lines := open(t, "", Config{DSN: r.superuser, ListenDSN: r.dsn})
		e := watched(t, d, accounts.Config{Poll: quickly})
		r.rotate(t)
		eventually.Holds(t, "the watch is lost", func() bool { return !e.Stats().Watching })
		_, err := d.Watch(t.Context(), func(...string) {})
		refused(t, err)
		r.password.Store("second")
		eventually.Holds(t, "the watch is back", func() bool { return e.Stats().Watching })
		eventually.Holds(t, "that is logged", func() bool {
			return lines.FilterMessage("watching the database for changes").Len() > 0
		})
		execute(t, r.server, `delete from users`)
		eventually.Holds(t, "it notices a change", func() bool {
			account, _, err := ask(e, "live", time.Time{})
			return err == nil && !account.Exists
		})
	})
	t.Run("of database, for what writes", func(t *testing.T) {
		t.Parallel()
		r := newRotating(t)
		d, _ := open(t, "", Config{DSN: r.dsn})
		remove := func() error { // as cleanup does
			return d.With(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, `delete from users`)
				return err
			})
		}
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		r.rotate(t)
		refused(t, remove())
		r.password.Store("second")
		if err := remove(); err != nil {
			t.Errorf("with the new password: %v", err)
		}
	})
}

func TestThroughATransactionPooler(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	dsn := pooler(t, name)
	for title, parameters := range map[string]string{"said": "&pgbouncer=true", "found out": ""} {
		t.Run(title, func(t *testing.T) {
			d, _ := open(t, dsn+parameters, Config{})
			e := engine(t, d, accounts.Config{TTL: time.Nanosecond}) // nothing is cached
			for range 20 {
				var all sync.WaitGroup
				for i := range 5 {
					all.Go(func() {
						if account, _, err := ask(e, "live", time.Time{}); err != nil || !account.Exists {
							t.Errorf("%+v, %v", account, err)
						}
						if account, _, err := ask(e, "gone"+strconv.Itoa(i), time.Time{}); err != nil || account.Exists {
							t.Errorf("%+v, %v", account, err)
						}
					})
				}
				all.Wait()
			}
			run(t, name, `alter table users alter id type varchar`)
			lookup(t, d, "live")
		})
	}
	t.Run("of another database", func(t *testing.T) {
		d, _ := open(t, strings.Replace(dsn, "/"+name, "/nowhere", 1), Config{})
		if e := failure(t, d, "live"); e.Class != directories.Refused || !strings.Contains(e.Text, "the pooler has no such database") {
			t.Errorf("%s: %v", e.Class, e)
		}
	})
}

func TestAPoolerThatRefusesSettingsIsConnectedToWithoutThem(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	dsn := pooler(t, name)
	for what, use := range map[string]func(t *testing.T, d *Directory) error{
		"lookups": func(t *testing.T, d *Directory) error {
			_, err := d.Lookup(t.Context(), []directories.Query{{Subject: []byte("live")}})
			return err
		},
		"the watch": func(t *testing.T, d *Directory) error {
			w, err := d.Watch(t.Context(), func(...string) {})
			if err != nil {
				return err
			}
			defer w.Close()
			gate := w.(directories.Gate)
			if _, err := gate.Read(t.Context()); err != nil {
				return err
			}
			_, err = gate.Lookup(t.Context(), []directories.Query{{Subject: []byte("live")}})
			return err
		},
		"the echo of the watch": func(t *testing.T, d *Directory) error {
			if transaction := d.sendEcho(t.Context(), "echo"); transaction == "" {
				return errors.New("it was not sent")
			}
			return nil
		},
		"what writes": func(t *testing.T, d *Directory) error {
			return d.With(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, `update users set id = id`)
				return err
			})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, dsn, Config{})
			if err := use(t, d); err != nil {
				t.Error(err)
			}
			if refused := d.lookups.pooled.Load(); refused != (what != "what writes") {
				t.Errorf("settings were refused: %t", refused)
			}
		})
	}
	t.Run("many at once", func(t *testing.T) {
		t.Parallel()
		d, _ := open(t, dsn, Config{})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				conn, err := d.listen.connect(t.Context(), reading, nil)
				if err != nil {
					t.Error(err)
					return
				}
				conn.Close(t.Context())
			})
		}
		all.Wait()
	})
}

// pooler starts a PgBouncer in front of a database of the shared server, and
// returns the address.
func pooler(t testing.TB, name string) string {
	t.Helper()
	p, err := server.Pooler(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p.DSN()
}

// A role may have so few connections that the watch takes the last one.
func TestLookupsComeBeforeTheWatch(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"1", "2"} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			db := database(t, `create table users (id text primary key)`, `insert into users values ('ada')`)
			_, dsn := role(t, db, `alter role %s connection limit `+limit, `grant select on users to %s`)
			d, _ := open(t, dsn, Config{})
			e := engine(t, d, accounts.Config{Poll: quickly, TTL: time.Nanosecond, AbsentTTL: time.Nanosecond}) // nothing is cached
			e.StartWatch()
			for subject, exists := range map[string]bool{"ada": true, "gone": false} {
				eventually.Holds(t, subject+" is looked up", func() bool {
					account, source, err := ask(e, subject, time.Time{})
					return err == nil && source == accounts.FromDatabase && account.Exists == exists
				})
			}
			run(t, db, `delete from users`)
			eventually.Holds(t, "the change is seen", func() bool {
				account, _, err := ask(e, "ada", time.Time{})
				return err == nil && !account.Exists
			})
		})
	}
}
