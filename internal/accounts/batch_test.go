package accounts

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

func TestLookupsThatWaitShareAStatement(t *testing.T) {
	s := ownServer(t, "log_statement=all")
	if err := s.Exec(t.Context(), "postgres", `create table users (id text primary key); insert into users select 'u' || g from generate_series(1, 300) g`); err != nil {
		t.Fatal(err)
	}
	p, _ := open(t, s.DSN("postgres"), Config{Poll: -1})
	lookup(t, p, "u1")
	before := strings.Count(s.Log(), "with ordinality")
	var all sync.WaitGroup
	for i := range 300 {
		for range 3 {
			all.Go(func() {
				if account, _, err := ask(p, "u"+strconv.Itoa(i+1), time.Time{}); err != nil || !account.Exists {
					t.Errorf("u%d: %+v, %v", i+1, account, err)
				}
			})
		}
	}
	all.Wait()
	statements := strings.Count(s.Log(), "with ordinality") - before
	if statements == 0 || statements > 150 {
		t.Errorf("%d statements for 900 lookups of 300 users", statements)
	}
	t.Logf("%d statements for 900 lookups of 300 users", statements)
}

// slow is a batch whose lookups end when the test lets them.
func slow(t testing.TB, workers int) (b *batch, served chan []*call, now *atomic.Int64) {
	t.Helper()
	served, now = make(chan []*call), new(atomic.Int64)
	b = &batch{
		workers: workers, open: make(map[string]*call),
		now: func() instant { return instant(now.Add(1)) },
	}
	b.serve = func(calls []*call) {
		served <- calls
		<-served
		b.close(calls)
		for _, c := range calls {
			close(c.done)
		}
	}
	return b, served, now
}

func subjectsOf(calls []*call) string {
	var all []string
	for _, c := range calls {
		all = append(all, c.subject)
	}
	return strings.Join(all, " ")
}

func TestAWorkerTakesAllThatWaits(t *testing.T) {
	b, served, now := slow(t, 1)
	join := func(subject string, after instant) *call {
		t.Helper()
		c, err := b.join(subject, after)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := join("a", 0)
	calls := <-served
	if got := subjectsOf(calls); got != "a" {
		t.Fatalf("served %s: a lone lookup has to wait for nothing", got)
	}
	for _, subject := range []string{"b", "c", "b", "a"} { // a is under way
		join(subject, 0)
	}
	if join("a", 0) != first {
		t.Error("a second lookup of one that is under way")
	}
	again := join("a", instant(now.Load()+1)) // its query has begun too early
	if again == first || join("a", 0) != again {
		t.Error("one that has begun too early was waited for")
	}
	b.refresh("b")
	b.refresh("d")
	served <- nil
	if got := subjectsOf(<-served); got != "b c a d" {
		t.Errorf("served %s", got)
	}
	served <- nil
	<-again.done
	eventually.Holds(t, "the worker ends", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.working == 0 && len(b.open) == 0
	})
}

func TestNoMoreLookupsWaitThanMay(t *testing.T) {
	b, served, _ := slow(t, 1)
	for i := range maxWaiting + 1 { // one is served
		if _, err := b.join(strconv.Itoa(i), 0); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-served
		}
	}
	_, err := b.join("one more", 0)
	var e *Error
	if !errors.As(err, &e) || e.Class != Busy {
		t.Errorf("%v", err)
	}
	if _, err := b.join("7", 0); err != nil {
		t.Errorf("one that waits already: %v", err)
	}
	for left := maxWaiting; left > 0; {
		served <- nil
		calls := <-served
		if len(calls) > maxBatch {
			t.Fatalf("%d at a time", len(calls))
		}
		left -= len(calls)
	}
	served <- nil
}

func TestASubjectThatTheDatabaseRefusesHasNoRow(t *testing.T) {
	name := database(t, `create table members (id int primary key); insert into members select generate_series(1, 20)`)
	p, _ := open(t, server.DSN(name), Config{Poll: -1, Query: `select id::text as id from members where id = any($1::text[]::int[])`})
	var all sync.WaitGroup
	for i := range 40 {
		subject, exists := strconv.Itoa(i), i >= 1 && i <= 20
		if i%4 == 3 {
			subject, exists = fmt.Sprintf("no-%d", i), false
		}
		all.Go(func() {
			if account, _, err := ask(p, subject, time.Time{}); err != nil || account.Exists != exists {
				t.Errorf("%s: %+v, %v", subject, account, err)
			}
		})
	}
	all.Wait()
}

func TestAnAccountInUseIsRefreshedBeforeItsTimeIsOver(t *testing.T) {
	name := database(t, oneUser)
	p, _ := open(t, server.DSN(name), Config{Poll: -1, TTL: time.Hour})
	var ahead atomic.Int64
	p.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	lookup(t, p, "live")
	ahead.Store(int64(50 * time.Minute))
	first := lookup(t, p, "live").asked
	eventually.Holds(t, "it is refreshed, and nobody waits", func() bool {
		account, source, err := ask(p, "live", time.Time{})
		if err != nil || source != FromCache {
			t.Fatalf("%s, %v", source, err)
		}
		return account.asked > first
	})
	ahead.Store(int64(100 * time.Minute))
	if _, source, err := ask(p, "live", time.Time{}); err != nil || source != FromCache {
		t.Errorf("%s, %v", source, err)
	}
}

// stopped is a directory whose server was stopped after a lookup, and what the
// directory logs.
func stopped(t *testing.T) (*pgtest.Server, *Postgres, *observer.ObservedLogs) {
	t.Helper()
	s := ownServer(t)
	if err := s.Exec(t.Context(), "postgres", oneUser); err != nil {
		t.Fatal(err)
	}
	p, lines := open(t, s.DSN("postgres"), Config{Poll: -1})
	lookup(t, p, "live")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return s, p, lines
}

func TestWhileTheDatabaseIsAwayNobodyWaitsAndItIsTriedInTheBackground(t *testing.T) {
	s, p, _ := stopped(t)
	eventually.Holds(t, "it is known to be away", func() bool { return failure(t, p, "unheard of") == p.errAway })
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// No lookup is made, so none can have found out.
	eventually.Holds(t, "it is known to be back", func() bool { return !p.Stats().Broken })
	if account, source, err := ask(p, "unheard of", time.Time{}); err != nil || source != FromDatabase || account.Exists {
		t.Errorf("%+v, %s, %v", account, source, err)
	}
}

func TestAfterOneFailureTheDatabaseIsKnownToBeBackWithoutARequest(t *testing.T) {
	s, p, lines := stopped(t)
	failure(t, p, "unheard of")
	if stats := p.Stats(); stats.Failure == "" || stats.Broken {
		t.Errorf("one request has failed, and the state is %+v", stats)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "it is known to be back", func() bool { return p.Stats().Failure == "" })
	if n := lines.FilterMessageSnippet("can be looked up again").Len(); n != 1 {
		t.Errorf("that was logged %d times", n)
	}
}

// BenchmarkUnknown looks subjects up that were not asked for before, by 64 at a
// time.
func BenchmarkUnknown(b *testing.B) {
	const users = 500_000
	name := database(b, `create table "User" (id text primary key, name text, email text unique, "createdAt" timestamp(3) not null default current_timestamp)`,
		`insert into "User" (id, email) select 'clx0a1b2c0000qwer' || lpad(g::text, 8, '0'), g::text from generate_series(1, 500000) g`, `vacuum analyze "User"`)
	p, _ := open(b, server.DSN(name), Config{Size: 10_000})
	var next atomic.Int64
	lookup(b, p, "nobody") // connects
	b.ResetTimer()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var account Account
		for pb.Next() {
			subject := fmt.Sprintf("clx0a1b2c0000qwer%08d", next.Add(1)%users+1)
			if _, err := p.Lookup(context.Background(), Query{Subject: []byte(subject), Now: time.Now()}, &account); err != nil || !account.Exists {
				b.Fatal(subject, err)
			}
		}
	})
}
