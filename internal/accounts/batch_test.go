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

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

func TestLookupsThatWaitShareAStatement(t *testing.T) {
	t.Parallel()
	const users = 300
	s := ownServer(t, []string{"log_statement=all"}, fmt.Sprintf(`create table users (id text primary key); insert into users select 'u' || g from generate_series(1, %d) g`, users))
	d := held{directory: openPostgres(t, s.DSN("postgres"), postgres.Config{}), released: make(chan struct{})}
	e := Open(d, Config{Timeout: time.Minute})
	t.Cleanup(func() { closed(t, e) })
	var all sync.WaitGroup
	for i := range users {
		for range 3 {
			all.Go(func() {
				if account, _, err := ask(e, "u"+strconv.Itoa(i+1), time.Time{}); err != nil || !account.Exists {
					t.Errorf("u%d: %+v, %v", i+1, account, err)
				}
			})
		}
	}
	eventually.Holds(t, "all wait", func() bool {
		e.lookups.mu.Lock()
		defer e.lookups.mu.Unlock()
		return len(e.lookups.open) == users
	})
	close(d.released)
	all.Wait()
	// Each worker took one, or some, and then one of them all the others.
	if statements := strings.Count(s.Log(), "with ordinality"); statements == 0 || statements > lookupWorkers+1 {
		t.Errorf("%d statements for %d lookups of %d users", statements, 3*users, users)
	}
}

// held is a directory whose lookups wait until they are released.
type held struct {
	directory directories.Directory
	released  chan struct{}
}

func (h held) String() string { return h.directory.String() }

func (h held) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	<-h.released
	return h.directory.Lookup(context.WithoutCancel(ctx), queries) // however long it took
}

// slow is a batch whose lookups end when the test lets them.
func slow(t testing.TB, workers int) (b *batch, served chan []*call, now *atomic.Int64) {
	t.Helper()
	served, now = make(chan []*call), new(atomic.Int64)
	b = newBatch(workers, func() instant { return instant(now.Add(1)) }, func(calls []*call) {
		served <- calls
		<-served
		b.close(calls)
		for _, c := range calls {
			close(c.done)
		}
	})
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
	t.Parallel()
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
	t.Parallel()
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
	var e *directories.Error
	if !errors.As(err, &e) || e.Class != directories.Busy {
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
	t.Parallel()
	name := database(t, `create table members (id int primary key); insert into members select generate_series(1, 20)`)
	query := postgres.Config{Query: `select id::text as id from members where id = any($1::text[]::int[])`}
	e, _ := openWith(t, server.DSN(name), query, Config{Poll: -1})
	var all sync.WaitGroup
	for i := range 40 {
		subject, exists := strconv.Itoa(i), i >= 1 && i <= 20
		if i%4 == 3 {
			subject, exists = fmt.Sprintf("no-%d", i), false
		}
		all.Go(func() {
			if account, _, err := ask(e, subject, time.Time{}); err != nil || account.Exists != exists {
				t.Errorf("%s: %+v, %v", subject, account, err)
			}
		})
	}
	all.Wait()
}

func TestAnAccountInUseIsRefreshedBeforeItsTimeIsOver(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	e, _ := open(t, server.DSN(name), Config{Poll: -1, TTL: time.Hour})
	var ahead atomic.Int64
	e.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	look(t, e, "live")
	ahead.Store(int64(50 * time.Minute))
	first := look(t, e, "live").asked
	eventually.Holds(t, "it is refreshed, and nobody waits", func() bool {
		account, source, err := ask(e, "live", time.Time{})
		if err != nil || source != FromCache {
			t.Fatalf("%s, %v", source, err)
		}
		return account.asked > first
	})
	ahead.Store(int64(100 * time.Minute))
	if _, source, err := ask(e, "live", time.Time{}); err != nil || source != FromCache {
		t.Errorf("%s, %v", source, err)
	}
}

// BenchmarkUnknown looks subjects up that were not asked for before, by 64 at a
// time.
func BenchmarkUnknown(b *testing.B) {
	const users = 500_000
	name := database(b, `create table "User" (id text primary key, name text, email text unique, "createdAt" timestamp(3) not null default current_timestamp)`,
		`insert into "User" (id, email) select 'clx0a1b2c0000qwer' || lpad(g::text, 8, '0'), g::text from generate_series(1, 500000) g`, `vacuum analyze "User"`)
	e, _ := open(b, server.DSN(name), Config{Size: 10_000})
	var next atomic.Int64
	look(b, e, "nobody") // connects
	b.ResetTimer()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var account Account
		for pb.Next() {
			subject := fmt.Sprintf("clx0a1b2c0000qwer%08d", next.Add(1)%users+1)
			if _, err := e.Lookup(context.Background(), Query{Query: directories.Query{Subject: []byte(subject)}, Now: time.Now()}, &account); err != nil || !account.Exists {
				b.Fatal(subject, err)
			}
		}
	})
}
