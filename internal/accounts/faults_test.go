package accounts

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

func TestTheServerIsDownAtFirst(t *testing.T) {
	t.Parallel()
	s := ownServer(t, nil, oneUser)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	e, lines := open(t, s.DSN("postgres"), Config{})
	for _, subject := range []string{"live", "gone", "\x00"} {
		if failed := failure(t, e, subject); failed.Class != directories.Down {
			t.Errorf("%q: class %s", subject, failed.Class)
		}
	}
	eventually.Holds(t, "the breaker opens", func() bool { return failure(t, e, "live") == e.errAway })
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the user is found again", func() bool {
		account, _, err := ask(e, "live", time.Time{})
		return err == nil && account.Exists
	})
	if look(t, e, "gone").Exists {
		t.Error("an absent user was found")
	}
	eventually.Holds(t, "that is logged", func() bool { return lines.FilterMessage("user lookup recovered").Len() > 0 })
	down := lines.FilterMessage("user lookup failed; sessions pass unchecked").FilterField(zap.String("class", string(directories.Down))).Len()
	up := lines.FilterMessage("user lookup recovered").Len()
	if periods := 1 + int(time.Since(began)/logPeriod); down == 0 || down > periods || up != 1 {
		t.Errorf("logged %d failures and %d recoveries, want 1 and 1: %v", down, up, lines.All())
	}
}

func TestTheFirstLookupsAfterARestartSucceed(t *testing.T) {
	t.Parallel()
	s := ownServer(t, nil, oneUser, `insert into users select 'u' || g from generate_series(1, 100) g`)
	e, _ := open(t, s.DSN("postgres"), Config{})
	warm := func(from int) {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if account, _, err := ask(e, "u"+strconv.Itoa(from+i), time.Time{}); err != nil || !account.Exists {
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
	t.Parallel()
	s := ownServer(t, nil, oneUser, `insert into users select 'u' || g from generate_series(1, 50) g`)
	e, _ := open(t, s.DSN("postgres"), Config{TTL: time.Millisecond})
	for i := range 50 {
		look(t, e, "u"+strconv.Itoa(i+1))
	}
	var stop atomic.Bool
	var lookups, fallbacks atomic.Int64
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := w; !stop.Load(); i++ {
				account, source, err := ask(e, "u"+strconv.Itoa(i%50+1), time.Time{})
				if err != nil || !account.Exists {
					t.Errorf("a known user: %+v, %v", account, err)
					return
				}
				lookups.Add(1)
				if source == FromFallback {
					fallbacks.Add(1)
				}
				if account, _, err := ask(e, "gone"+strconv.Itoa(i), time.Time{}); err == nil && account.Exists {
					t.Error("an absent user was found")
				}
			}
		})
	}
	defer all.Wait()
	defer stop.Store(true)
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
			_, source, _ := ask(e, "u1", time.Time{})
			return t.Failed() || source == FromDatabase
		})
	}
	t.Logf("%d lookups, %d of them by last known accounts", lookups.Load(), fallbacks.Load())
}

func TestClosingIsNoFailureOfTheDatabase(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	failures := new(failuresOf)
	e, lines := open(t, server.DSN(name)+"&lock_timeout=0", Config{Poll: -1, Observer: failures})
	look(t, e, "live")
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
		_, _, err := ask(e, "unheard of", time.Time{})
		asked <- err
	}()
	eventually.Holds(t, "the lookup waits", func() bool {
		var waits bool
		if err := conn.QueryRow(t.Context(), "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = $1)", name).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		return waits
	})
	closed(t, e)
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
	t.Parallel()
	s := ownServer(t, nil, oneUser)
	e, _ := open(t, s.DSN("postgres"), Config{TTL: time.Nanosecond, Timeout: 5 * time.Second})
	look(t, e, "live")
	resume, err := s.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	failure(t, e, "unheard of")
	ended := make(chan struct{})
	go func() { defer close(ended); closed(t, e) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second): // it would be 15
		t.Error("it waits for the server")
	}
	if err := resume(); err != nil {
		t.Error(err)
	}
}

func TestAnAbsenceIsNoLastKnownAccount(t *testing.T) {
	t.Parallel()
	s := ownServer(t, nil, oneUser)
	e, _ := open(t, s.DSN("postgres"), Config{TTL: time.Millisecond})
	look(t, e, "gone")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the absence has aged", func() bool {
		_, _, err := ask(e, "gone", time.Time{})
		return err != nil
	})
}

func TestALastKnownAccountAgesInTenMinutes(t *testing.T) {
	t.Parallel()
	s := ownServer(t, nil, oneUser)
	e, _ := open(t, s.DSN("postgres"), Config{})
	start := time.Now()
	var ahead atomic.Int64
	e.now = func() time.Time { return start.Add(time.Duration(ahead.Load())) }
	look(t, e, "live")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	later := func(d time.Duration) { ahead.Store(int64(d)) }
	later(time.Duration(lastKnown) - time.Second)
	if account, source, err := ask(e, "live", time.Time{}); err != nil || source != FromFallback || !account.Exists {
		t.Errorf("before: %+v, %s, %v", account, source, err)
	}
	later(time.Duration(lastKnown) + time.Second)
	if failed := failure(t, e, "live"); failed.Class != directories.Down {
		t.Errorf("after: %v", failed)
	}
}

func TestTheTableIsDroppedAndMadeAgain(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	e, _ := open(t, server.DSN(name), Config{Poll: -1, TTL: time.Nanosecond})
	look(t, e, "live")
	run(t, name, `drop table users`)
	if account, source, err := ask(e, "live", time.Time{}); err != nil || source != FromFallback || !account.Exists {
		t.Errorf("without a table: %+v, %s, %v", account, source, err)
	}
	if failed := failure(t, e, "unheard of"); failed.Class != directories.Schema {
		t.Errorf("without a table: %v", failed)
	}
	run(t, name, `create table users (id int primary key); insert into users values (7)`) // of another type
	if look(t, e, "live").Exists {
		t.Error("a text is no id of an integer column")
	}
	eventually.Holds(t, "it is not probed any more", func() bool { return !e.probing.Load() })
	if !look(t, e, "7").Exists {
		t.Error("the new user was not found")
	}
	run(t, name, `alter table users alter id type text using 'x' || id`)
	if !look(t, e, "x7").Exists || look(t, e, "7").Exists {
		t.Error("the changed id was not noticed")
	}
	run(t, name, `alter table users rename to "User"`)
	if !look(t, e, "x7").Exists {
		t.Error("the renamed table was not found")
	}
}

func TestTheDatabaseIsDroppedAndMadeAgain(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	e, _ := open(t, server.DSN(name), Config{TTL: time.Nanosecond})
	look(t, e, "live")
	run(t, "postgres", `drop database `+name+` with (force)`)
	if account, source, err := ask(e, "live", time.Time{}); err != nil || source != FromFallback || !account.Exists {
		t.Errorf("without a database: %+v, %s, %v", account, source, err)
	}
	run(t, "postgres", `create database `+name)
	run(t, name, `create table users (id uuid primary key)`)
	eventually.Holds(t, "the user is gone", func() bool {
		account, source, err := ask(e, "live", time.Time{})
		return err == nil && source == FromDatabase && !account.Exists
	})
}

func TestAMigrationHoldsTheTable(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	e, _ := open(t, server.DSN(name), Config{TTL: time.Nanosecond})
	look(t, e, "live")
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
	if account, source, err := ask(e, "live", time.Time{}); err != nil || source != FromFallback || !account.Exists {
		t.Errorf("while it is locked: %+v, %s, %v", account, source, err)
	}
	if failed := failure(t, e, "unheard of"); failed.Class != directories.Slow {
		t.Errorf("while it is locked: %v", failed)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the user is gone", func() bool {
		account, _, err := ask(e, "live", time.Time{})
		return err == nil && !account.Exists
	})
}

func TestARequestDoesNotWaitLongerThanItMay(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	e, _ := open(t, server.DSN(name), Config{Timeout: 20 * time.Millisecond})
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `begin; lock table users`); err != nil {
		t.Fatal(err)
	}
	// The lock ends after the lookups have, or the test would not come this far.
	if failed := failure(t, e, "live"); failed.Class != directories.Slow {
		t.Errorf("%v", failed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Lookup(ctx, Query{Query: directories.Query{Subject: []byte("other")}, Now: e.now()}, new(Account)); err == nil {
		t.Error("a request that has ended waited for the database")
	}
	if _, err := conn.Exec(t.Context(), `commit`); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the user is found", func() bool {
		account, _, err := ask(e, "live", time.Time{})
		return err == nil && account.Exists
	})
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	name := database(t, oneUser)
	e, _ := open(t, server.DSN(name), Config{})
	look(t, e, "live")
	closed(t, e)
	closed(t, e)
	failure(t, e, "gone")
	eventually.Holds(t, "nothing is left", func() bool { return goleak.Find(before) == nil })
}

func BenchmarkLookup(b *testing.B) {
	name := database(b, oneUser)
	e, _ := open(b, server.DSN(name), Config{TTL: time.Hour})
	look(b, e, "live")
	b.ReportAllocs()
	for b.Loop() {
		look(b, e, "live")
	}
}
