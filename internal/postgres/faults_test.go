package postgres

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// ownServer starts a server that the test may end.
func ownServer(t testing.TB, settings ...string) *pgtest.Server {
	t.Helper()
	s, err := pgtest.Start(context.Background(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

const oneUser = `create table users (id text primary key); insert into users values ('live')`

func TestTheServerIsDownAtFirst(t *testing.T) {
	s := ownServer(t)
	if err := s.Exec(t.Context(), "postgres", oneUser); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	p, lines := open(t, s.DSN("postgres"), Config{})
	for _, subject := range []string{"live", "gone", "\x00"} {
		if e := failure(t, p, subject); e.Class != Down {
			t.Errorf("%q: class %s", subject, e.Class)
		}
	}
	eventually.Holds(t, "the breaker opens", func() bool { return failure(t, p, "live") == p.errAway })
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the user is found again", func() bool {
		account, _, err := ask(p, "live", time.Time{})
		return err == nil && account.Exists
	})
	if lookup(t, p, "gone").Exists {
		t.Error("an absent user was found")
	}
	if down, up := lines.FilterMessageSnippet("cannot be looked up").Len(), lines.FilterMessageSnippet("can be looked up again").Len(); down != 1 || up != 1 {
		t.Errorf("logged %d failures and %d recoveries, want 1 and 1: %v", down, up, lines.All())
	}
}

func TestTheFirstLookupsAfterARestartSucceed(t *testing.T) {
	s := ownServer(t)
	if err := s.Exec(t.Context(), "postgres", oneUser, `insert into users select 'u' || g from generate_series(1, 100) g`); err != nil {
		t.Fatal(err)
	}
	p, _ := open(t, s.DSN("postgres"), Config{})
	warm := func(from int) {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if account, _, err := ask(p, "u"+strconv.Itoa(from+i), time.Time{}); err != nil || !account.Exists {
					t.Errorf("u%d: %+v, %v", from+i, account, err)
				}
			})
		}
		all.Wait()
	}
	warm(1)
	for _, end := range []func() error{s.Stop, s.Kill} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		warm(30)
		warm(60)
	}
}

func TestKilledAndRestartedUnderLoadNoUserIsLost(t *testing.T) {
	s := ownServer(t)
	if err := s.Exec(t.Context(), "postgres", oneUser, `insert into users select 'u' || g from generate_series(1, 50) g`); err != nil {
		t.Fatal(err)
	}
	p, _ := open(t, s.DSN("postgres"), Config{TTL: time.Millisecond})
	for i := range 50 {
		lookup(t, p, "u"+strconv.Itoa(i+1))
	}
	var stop atomic.Bool
	var lookups, fallbacks atomic.Int64
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := w; !stop.Load(); i++ {
				account, source, err := ask(p, "u"+strconv.Itoa(i%50+1), time.Time{})
				if err != nil || !account.Exists {
					t.Errorf("a known user: %+v, %v", account, err)
					return
				}
				lookups.Add(1)
				if source == FromFallback {
					fallbacks.Add(1)
				}
				if account, _, err := ask(p, "gone"+strconv.Itoa(i), time.Time{}); err == nil && account.Exists {
					t.Error("an absent user was found")
				}
			}
		})
	}
	for range 3 {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
		before := fallbacks.Load()
		eventually.Holds(t, "last known accounts are used", func() bool { return t.Failed() || fallbacks.Load() > before+100 })
		if err := s.Restart(t.Context()); err != nil {
			t.Error(err)
		}
		eventually.Holds(t, "the database is used again", func() bool {
			_, source, _ := ask(p, "u1", time.Time{})
			return t.Failed() || source == FromDatabase
		})
	}
	stop.Store(true)
	all.Wait()
	t.Logf("%d lookups, %d of them by last known accounts", lookups.Load(), fallbacks.Load())
}

func TestClosingIsNoFailureOfTheDatabase(t *testing.T) {
	name := database(t, oneUser)
	failures := new(failuresOf)
	p, lines := open(t, server.DSN(name), Config{Poll: -1, Observer: failures})
	lookup(t, p, "live")
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "begin; lock table users"); err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() {
		_, _, err := ask(p, "unheard of", time.Time{})
		asked <- err
	}()
	eventually.Holds(t, "the lookup waits", func() bool {
		var waits bool
		if err := conn.QueryRow(t.Context(), "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = $1)", name).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		return waits
	})
	p.Close()
	if err := <-asked; err == nil {
		t.Error("a lookup that was broken off has found something out")
	}
	if n := failures.n.Load(); n != 0 || lines.FilterLevelExact(zapcore.ErrorLevel).Len() > 0 {
		t.Errorf("%d failures are counted, and %v logged", n, lines.All())
	}
}

// failuresOf counts lookups that fail.
type failuresOf struct{ n atomic.Int64 }

func (f *failuresOf) Asked(_ int, _ time.Duration, err error) {
	if err != nil {
		f.n.Add(1)
	}
}

func (f *failuresOf) Happened(Event, string, map[string]any) { f.n.Add(1) }

func TestClosingDoesNotWaitForAServerThatHangs(t *testing.T) {
	s := ownServer(t)
	if err := s.Exec(t.Context(), "postgres", oneUser); err != nil {
		t.Fatal(err)
	}
	p, _ := open(t, s.DSN("postgres"), Config{TTL: time.Nanosecond})
	lookup(t, p, "live")
	resume, err := s.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	failure(t, p, "unheard of")
	closed := make(chan struct{})
	go func() { p.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second): // it would be 15
		t.Error("it waits for the server")
	}
	if err := resume(); err != nil {
		t.Error(err)
	}
}

func TestAnAbsenceIsNoLastKnownAccount(t *testing.T) {
	s := ownServer(t)
	if err := s.Exec(t.Context(), "postgres", oneUser); err != nil {
		t.Fatal(err)
	}
	p, _ := open(t, s.DSN("postgres"), Config{TTL: time.Millisecond})
	lookup(t, p, "gone")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the absence has aged", func() bool {
		_, _, err := ask(p, "gone", time.Time{})
		return err != nil
	})
}

func TestALastKnownAccountAgesInTenMinutes(t *testing.T) {
	s := ownServer(t)
	if err := s.Exec(t.Context(), "postgres", oneUser); err != nil {
		t.Fatal(err)
	}
	p, _ := open(t, s.DSN("postgres"), Config{})
	var ahead atomic.Int64
	p.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	lookup(t, p, "live")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	later := func(d time.Duration) { ahead.Store(int64(d)) }
	later(time.Duration(lastKnown) - time.Second)
	if account, source, err := ask(p, "live", time.Time{}); err != nil || source != FromFallback || !account.Exists {
		t.Errorf("before: %+v, %s, %v", account, source, err)
	}
	later(time.Duration(lastKnown) + time.Second)
	if e := failure(t, p, "live"); e.Class != Down {
		t.Errorf("after: %v", e)
	}
}

func TestTheTableIsDroppedAndMadeAgain(t *testing.T) {
	name := database(t, oneUser)
	p, _ := open(t, server.DSN(name), Config{TTL: time.Nanosecond})
	lookup(t, p, "live")
	run(t, name, `drop table users`)
	if account, source, err := ask(p, "live", time.Time{}); err != nil || source != FromFallback || !account.Exists {
		t.Errorf("without a table: %+v, %s, %v", account, source, err)
	}
	if e := failure(t, p, "unheard of"); e.Class != Schema {
		t.Errorf("without a table: %v", e)
	}
	run(t, name, `create table users (id int primary key); insert into users values (7)`) // of another type
	if lookup(t, p, "live").Exists {
		t.Error("a text is no id of an integer column")
	}
	if !lookup(t, p, "7").Exists {
		t.Error("the new user was not found")
	}
	run(t, name, `alter table users alter id type text using 'x' || id`)
	if !lookup(t, p, "x7").Exists || lookup(t, p, "7").Exists {
		t.Error("the changed id was not noticed")
	}
	run(t, name, `alter table users rename to "User"`)
	if !lookup(t, p, "x7").Exists {
		t.Error("the renamed table was not found")
	}
}

func TestTheDatabaseIsDroppedAndMadeAgain(t *testing.T) {
	name := database(t, oneUser)
	p, _ := open(t, server.DSN(name), Config{TTL: time.Nanosecond})
	lookup(t, p, "live")
	run(t, "postgres", `drop database `+name+` with (force)`)
	if account, source, err := ask(p, "live", time.Time{}); err != nil || source != FromFallback || !account.Exists {
		t.Errorf("without a database: %+v, %s, %v", account, source, err)
	}
	run(t, "postgres", `create database `+name)
	run(t, name, `create table users (id uuid primary key)`)
	eventually.Holds(t, "the user is gone", func() bool {
		account, source, err := ask(p, "live", time.Time{})
		return err == nil && source == FromDatabase && !account.Exists
	})
}

func TestAMigrationHoldsTheTable(t *testing.T) {
	name := database(t, oneUser)
	p, _ := open(t, server.DSN(name), Config{TTL: time.Nanosecond})
	lookup(t, p, "live")
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `alter table users add column x int; delete from users`); err != nil {
		t.Fatal(err)
	}
	if account, source, err := ask(p, "live", time.Time{}); err != nil || source != FromFallback || !account.Exists {
		t.Errorf("while it is locked: %+v, %s, %v", account, source, err)
	}
	if e := failure(t, p, "unheard of"); e.Class != Slow {
		t.Errorf("while it is locked: %v", e)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the user is gone", func() bool {
		account, _, err := ask(p, "live", time.Time{})
		return err == nil && !account.Exists
	})
}

func TestARequestDoesNotWaitLongerThanItMay(t *testing.T) {
	name := database(t, oneUser)
	p, _ := open(t, server.DSN(name), Config{Timeout: 20 * time.Millisecond})
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `begin; lock table users`); err != nil {
		t.Fatal(err)
	}
	// The lock ends after the lookups have, or the test would not come this far.
	if e := failure(t, p, "live"); e.Class != Slow {
		t.Errorf("%v", e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Lookup(ctx, Query{[]byte("other"), p.now(), time.Time{}}, new(Account)); err == nil {
		t.Error("a request that has ended waited for the database")
	}
	if _, err := conn.Exec(t.Context(), `commit`); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the user is found", func() bool {
		account, _, err := ask(p, "live", time.Time{})
		return err == nil && account.Exists
	})
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	name := database(t, oneUser)
	p, _ := open(t, server.DSN(name), Config{})
	lookup(t, p, "live")
	p.Close()
	p.Close()
	if e := failure(t, p, "gone"); e == nil {
		t.Error("a closed directory answers")
	}
	goleak.VerifyNone(t, before)
}

func BenchmarkLookup(b *testing.B) {
	name := database(b, oneUser)
	p, _ := open(b, server.DSN(name), Config{TTL: time.Hour})
	lookup(b, p, "live")
	b.ReportAllocs()
	for b.Loop() {
		lookup(b, p, "live")
	}
}
