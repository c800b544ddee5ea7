package accounts

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

func TestTheWatchDoesNotWorkMoreThanItMay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := new(watch)
		now := time.Now()
		w.counted, w.credit = now, maxBurst
		spend := func() (times int) {
			for ; w.credit > 0; times++ {
				if err := w.spend(func() error {
					time.Sleep(50 * time.Millisecond)
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			return times
		}
		if times := spend(); times != 20 {
			t.Errorf("%d times 50ms, of %s", times, maxBurst)
		}
		w.earn(now.Add(100 * time.Millisecond))
		if times := spend(); times != 1 {
			t.Errorf("%d times 50ms, of a tenth of 100ms", times)
		}
		if w.earn(now.Add(time.Hour)); w.credit != maxBurst {
			t.Errorf("after an hour it may work for %s", w.credit)
		}
	})
}

// BenchmarkRecheck looks 10,000 accounts in use up again, as after a change.
func BenchmarkRecheck(b *testing.B) {
	const inUse = 10_000
	name := database(b, `create table "User" (id text primary key, name text, email text unique, "createdAt" timestamp(3) not null default current_timestamp)`,
		`insert into "User" (id, email) select 'clx0a1b2c0000qwer' || lpad(g::text, 8, '0'), g::text from generate_series(1, 100000) g`, `vacuum analyze "User"`)
	e, _ := open(b, server.DSN(name), Config{})
	w := &e.watch
	opened, err := w.watcher.Watch(b.Context(), e.changed)
	if err != nil {
		b.Fatal(err)
	}
	defer opened.Close()
	gate := opened.(directories.Gate)
	if err := w.poll(gate); err != nil {
		b.Fatal(err)
	}
	for i := range inUse {
		subject := fmt.Sprintf("clx0a1b2c0000qwer%08d", i+1)
		e.store.set([]byte(subject), e.now(), &Account{Account: directories.Account{Exists: true}, record: record{window: 1}})
		w.recent.add(1, []byte(subject))
	}
	b.ReportAllocs()
	for b.Loop() {
		before := w.rechecked.Load()
		w.quiet.Store(int64(e.instant(e.now())))
		w.todo, w.credit, w.moved = w.recent.list(1), time.Hour, false
		if err := w.recheck(gate); err != nil || w.rechecked.Load() != before+inUse {
			b.Fatalf("%d looked up again, %v", w.rechecked.Load()-before, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/inUse, "ns/account")
}
