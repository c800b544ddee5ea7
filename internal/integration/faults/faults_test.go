package faults

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// load sends requests of two live users and one deleted user, until it is told
// to end, and counts what comes of them.
type load struct {
	t                    *testing.T
	enough               int64 // requests in each phase
	stop                 atomic.Bool
	all                  sync.WaitGroup
	live, stale, unknown atomic.Int64
	ended                atomic.Int64 // live ones
	longest              atomic.Int64 // nanoseconds
}

func startLoad(t *testing.T, base string) *load {
	l := &load{t: t, enough: 400}
	known, unheard, gone := standardapp.Session(t, "live"), standardapp.Session(t, "quiet"), standardapp.Session(t, "gone")
	for range 4 {
		l.all.Go(func() {
			for !l.stop.Load() {
				for _, cookie := range []string{known, unheard} {
					if status := l.send(base, cookie); status != http.StatusOK {
						t.Errorf("a live session: status %d", status)
						l.ended.Add(1)
					}
					l.live.Add(1)
				}
				switch status := l.send(base, gone); status {
				case http.StatusUnauthorized:
					l.stale.Add(1)
				case http.StatusOK:
					l.unknown.Add(1)
				default:
					t.Errorf("a stale session: status %d", status)
				}
			}
		})
	}
	return l
}

func (l *load) send(base, cookie string) int {
	start := time.Now()
	status := caddytest.Answered(l.t, base, cookie)
	for took := int64(time.Since(start)); ; {
		longest := l.longest.Load()
		if took <= longest || l.longest.CompareAndSwap(longest, took) {
			return status
		}
	}
}

// during runs a fault, and waits until requests have gone on all through it.
func (l *load) during(what string, fault func() error) {
	l.t.Helper()
	if err := fault(); err != nil {
		l.t.Error(err)
	}
	before := l.live.Load()
	eventually.Holds(l.t, "requests go on while "+what, func() bool { return l.live.Load() > before+l.enough || l.t.Failed() })
}

// end ends the load and tells what came of it.
func (l *load) end() {
	l.stop.Store(true)
	l.all.Wait()
	l.t.Logf("%d requests of live sessions, none ended; %d of a stale one refused and %d passed while the database was away; the longest took %s",
		l.live.Load(), l.stale.Load(), l.unknown.Load(), time.Duration(l.longest.Load()).Round(time.Millisecond))
}

// TestNoFaultOfTheDatabaseEndsASession kills, locks, empties of its schema and
// takes away the database under load. Every request of a live session passes.
func TestNoFaultOfTheDatabaseEndsASession(t *testing.T) {
	pg := pgtest.StartFor(t)
	const table = `create table "User" (id text primary key); insert into "User" values ('live'), ('quiet')`
	run := func(commands ...string) func() error {
		return func() error { return pg.Exec(context.Background(), "postgres", commands...) }
	}
	if err := run(table)(); err != nil {
		t.Fatal(err)
	}
	if err := pg.Stop(); err != nil {
		t.Fatal(err)
	}
	standardapp.Environment(t, pg.DSN("postgres"))
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	cache {", "		ttl 20ms", "	}", "	timeout 200ms", "}", app.Proxy()))

	restart := func() error { return pg.Restart(context.Background()) }
	l := startLoad(t, base)
	l.during("the database is down from the start", func() error { return nil })
	l.during("it comes up", restart)
	eventually.Holds(t, "the stale session is refused", func() bool { return l.stale.Load() > 0 || t.Failed() })
	for range 3 {
		l.during("it was killed", pg.Kill)
		l.during("it comes up", restart)
	}
	l.during("it was stopped", pg.Stop)
	l.during("it comes up", restart)
	l.during("the table was dropped", run(`drop table "User"`))
	l.during("it is made again", run(table))
	l.during("the schema was dropped", run(`drop schema public cascade`))
	l.during("it is made again", run(`create schema public`, table))
	l.during("the table is held by a migration", run(`begin; lock table "User"; select pg_sleep(1); commit`))
	l.during("the table has another name", run(`alter table "User" rename to "Users"`))
	l.during("it has its own again", run(`alter table "Users" rename to "User"`))
	refused := l.stale.Load()
	eventually.Holds(t, "the stale session is refused again", func() bool { return l.stale.Load() > refused || t.Failed() })
	l.end()
}
