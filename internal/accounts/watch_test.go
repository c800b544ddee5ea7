package accounts

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

const quickly = 20 * time.Millisecond

// watched opens a directory that polls quickly, whose accounts do not age, and
// waits until it watches.
func watched(t testing.TB, dsn string, config Config) *Postgres {
	t.Helper()
	config.Poll, config.TTL, config.AbsentTTL = quickly, time.Hour, time.Hour
	p, _ := open(t, dsn, config)
	_, _, _ = ask(p, "nobody", time.Time{}) // the first lookup starts the watch
	eventually.Holds(t, "the database is watched", func() bool { return p.Stats().Watching })
	return p
}

// becomes waits until lookups find what they should.
func becomes(t testing.TB, p *Postgres, subject string, what string, holds func(*Account) bool) {
	t.Helper()
	eventually.Holds(t, subject+" "+what, func() bool {
		account, _, err := ask(p, subject, time.Time{})
		return err == nil && holds(account)
	})
}

func gone(a *Account) bool     { return !a.Exists }
func here(a *Account) bool     { return a.Exists && !a.Disabled }
func disabled(a *Account) bool { return a.Exists && a.Disabled }

func TestEveryChangeIsNoticedWithNothingInstalled(t *testing.T) {
	name := database(t, `create table users (id text primary key, email text, banned boolean); insert into users values ('ada', 'a@b.c'), ('bob', 'b@b.c')`)
	p := watched(t, server.DSN(name), Config{Users: Users{Match: []string{"email"}}})
	lookup(t, p, "ada")
	lookup(t, p, "bob")
	run(t, name, `update users set banned = true where id = 'ada'`)
	becomes(t, p, "ada", "is banned", disabled)
	run(t, name, `update users set banned = false, email = 'new@b.c' where id = 'ada'`)
	becomes(t, p, "ada", "has another address", func(a *Account) bool { return here(a) && string(a.Columns[0]) == "new@b.c" })
	run(t, name, `delete from users where id = 'ada'`)
	becomes(t, p, "ada", "is gone", gone)
	run(t, name, `insert into users values ('ada')`)
	becomes(t, p, "ada", "is there again", here)
	if account := lookup(t, p, "bob"); !here(account) {
		t.Errorf("bob: %+v", account)
	}
}

func TestWithoutAChangeNothingIsAskedFor(t *testing.T) {
	s := ownServer(t, "log_statement=all")
	if err := s.Exec(t.Context(), "postgres", oneUser); err != nil {
		t.Fatal(err)
	}
	p, _ := open(t, s.DSN("postgres"), Config{Poll: quickly, TTL: time.Hour})
	p.watch.ears.every = 25 * quickly // what it does itself is no change
	lookup(t, p, "live")
	eventually.Holds(t, "the account is known to hold", func() bool {
		lookup(t, p, "live")
		var a Account
		return p.accounts.get([]byte("live"), p.now(), &a) && p.watch.holds(&a) && p.watch.behind.Load() == 0 && hearing(p.watch.ears.hearing.Load()) == untold
	})
	before, echoes := strings.Count(s.Log(), "with ordinality"), strings.Count(s.Log(), "pg_notify")
	eventually.Holds(t, "the channel is tried five times", func() bool {
		if _, source, err := ask(p, "live", time.Time{}); err != nil || source != FromCache {
			t.Errorf("%s, %v", source, err)
		}
		return strings.Count(s.Log(), "pg_notify") > echoes+5
	})
	if after := strings.Count(s.Log(), "with ordinality"); after != before {
		t.Errorf("%d lookups", after-before)
	}
}

func TestAccountsInUseAreServedWhileOthersWriteAllTheTime(t *testing.T) {
	name := database(t, oneUser, `create table other (n int)`, `insert into users select 'u' || g from generate_series(1, 200) g`)
	p := watched(t, server.DSN(name), Config{})
	for i := range 200 {
		lookup(t, p, "u"+strconv.Itoa(i+1))
		lookup(t, p, "u"+strconv.Itoa(i+1)) // in use from here on
	}
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		conn, err := pgx.Connect(context.Background(), server.DSN(name))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		for !stop.Load() {
			if _, err := conn.Exec(context.Background(), `insert into other values (1)`); err != nil {
				t.Error(err)
				return
			}
		}
	})
	before := p.Stats().Rechecked
	cached, asked := 0, 0
	eventually.Holds(t, "the accounts are checked again and again", func() bool {
		for i := range 200 {
			switch _, source, err := ask(p, "u"+strconv.Itoa(i+1), time.Time{}); {
			case err != nil:
				t.Fatal(err)
			case source == FromCache:
				cached++
			default:
				asked++
			}
		}
		return p.Stats().Rechecked > before+1000
	})
	run(t, name, `delete from users where id = 'u7'`)
	becomes(t, p, "u7", "is gone", gone)
	stop.Store(true)
	all.Wait()
	if asked > cached/10 {
		t.Errorf("%d lookups waited for the database, %d did not", asked, cached)
	}
}

func TestAnAccountThatIsNotInUseIsLookedUpAtItsNextRequest(t *testing.T) {
	name := database(t, oneUser)
	p := watched(t, server.DSN(name), Config{})
	lookup(t, p, "live") // once: it is not in use
	run(t, name, `delete from users`)
	eventually.Holds(t, "the change is noticed", func() bool {
		var a Account
		return p.accounts.get([]byte("live"), p.now(), &a) && !p.watch.holds(&a)
	})
	if account, source, err := ask(p, "live", time.Time{}); err != nil || source != FromDatabase || account.Exists {
		t.Errorf("%+v, %s, %v", account, source, err)
	}
}

// A user who came into use just as a change was noticed was not among those who
// were looked up again: it must not count as if it had been.
func TestAnAccountThatCameIntoUseTooLateToBeListedIsLookedUp(t *testing.T) {
	name := database(t, `create table users (id text primary key); insert into users values ('ada')`)
	p := watched(t, server.DSN(name), Config{})
	eventually.Holds(t, "ada is in use and holds", func() bool {
		var known Account
		lookup(t, p, "ada")
		return p.accounts.get([]byte("ada"), p.now(), &known) && known.window != 0 && p.watch.holds(&known) && p.watch.behind.Load() == 0
	})
	var known Account
	p.accounts.get([]byte("ada"), p.now(), &known)
	now := p.instant(p.now())
	p.watch.quiet.Store(int64(now)) // as if something was changed, and all who were listed are looked up again
	if p.fresh(&known, now) {
		t.Error("it is used without asking, for as long as accounts last")
	}
	p.watch.behind.Store(int64(now)) // they are still being looked up
	if !p.fresh(&known, now) {
		t.Error("its request has to wait although it is about to be looked up")
	}
}

func TestTheWatchDoesNotWorkMoreThanItMay(t *testing.T) {
	name := database(t, oneUser)
	p, _ := open(t, server.DSN(name), Config{Poll: quickly})
	w := p.watch
	conn, err := w.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	now := time.Now()
	w.counted, w.credit = now, maxBurst
	spent := func() { // 50ms at least
		if err := w.counting(func() error {
			_, err := conn.Exec(t.Context(), "select pg_sleep(0.05)")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	times := 0
	for ; w.credit > 0; times++ {
		spent()
	}
	if times > 20 {
		t.Errorf("%d times 50ms, of %s", times, maxBurst)
	}
	w.earn(now.Add(100 * time.Millisecond))
	for times = 0; w.credit > 0; times++ {
		spent()
	}
	if times > 1 {
		t.Errorf("%d times 50ms, of a tenth of 100ms", times)
	}
	if w.earn(now.Add(time.Hour)); w.credit != maxBurst {
		t.Errorf("after an hour it may work for %s", w.credit)
	}
}

func TestWithoutTheWatchNothingIsTrustedForLong(t *testing.T) {
	s := ownServer(t)
	if err := s.Exec(t.Context(), "postgres", oneUser); err != nil {
		t.Fatal(err)
	}
	var ahead atomic.Int64
	nowhere := "postgres://postgres@127.0.0.1:1/postgres?sslmode=disable&connect_timeout=1"
	p, lines := open(t, s.DSN("postgres"), Config{TTL: time.Hour, ListenDSN: func() (string, error) { return nowhere, nil }})
	p.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	lookup(t, p, "live")
	for _, c := range []struct {
		later  time.Duration
		source Source
	}{{0, FromCache}, {time.Duration(unwatchedTTL) - time.Second, FromCache}, {time.Duration(unwatchedTTL) + time.Second, FromDatabase}} {
		ahead.Store(int64(c.later))
		if account, source, err := ask(p, "live", time.Time{}); err != nil || !account.Exists || source != c.source {
			t.Errorf("after %s: %+v, %s, %v", c.later, account, source, err)
		}
	}
	eventually.Holds(t, "it is said", func() bool { return lines.FilterMessageSnippet("not watched").Len() > 0 })
	if p.Stats().Watching {
		t.Error("it watches nowhere")
	}
}

func TestANewConnectionOfTheWatchTrustsNothingFromBefore(t *testing.T) {
	name := database(t, oneUser)
	p := watched(t, server.DSN(name), Config{})
	for range 20 {
		lookup(t, p, "live")
		// What is changed while the connection is away, only a new look tells.
		run(t, name, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like '%pg_current_snapshot%' and pid <> pg_backend_pid()`,
			`delete from users`)
		becomes(t, p, "live", "is gone", gone)
		run(t, name, `insert into users values ('live')`)
		becomes(t, p, "live", "is there again", here)
	}
}

// TestNoDeletedUserStaysKnown races lookups against deletions that are
// notified: a lookup that began before must not bring the account back.
func TestNoDeletedUserStaysKnown(t *testing.T) {
	name := database(t, `create table users (id text primary key)`)
	p := watched(t, server.DSN(name), Config{})
	install(t, p)
	eventually.Holds(t, "changes are notified", func() bool { return p.Stats().Notified })
	const users = 200
	run(t, name, fmt.Sprintf(`insert into users select 'u' || g from generate_series(1, %d) g`, users))
	var all sync.WaitGroup
	var stop atomic.Bool
	for range 4 {
		all.Go(func() {
			for !stop.Load() {
				for i := range users {
					if _, _, err := ask(p, "u"+strconv.Itoa(i+1), time.Time{}); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	heard := p.watch.ears.heard.Load()
	for i := range users {
		if _, err := conn.Exec(t.Context(), `delete from users where id = $1`, "u"+strconv.Itoa(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	eventually.Holds(t, "the notifications have arrived", func() bool { return p.watch.ears.heard.Load() >= heard+users })
	stop.Store(true)
	all.Wait()
	p.watch.quiet.Store(0) // from here on only what was dropped is looked up
	known := 0
	for i := range users {
		if account, _, err := ask(p, "u"+strconv.Itoa(i+1), time.Time{}); err != nil || account.Exists {
			known++
		}
	}
	if known > 0 {
		t.Errorf("%d of %d deleted users are known", known, users)
	}
}

func TestADroppedAccountIsNotBroughtBack(t *testing.T) {
	c := newAccounts(100, time.Now(), time.Hour)
	key, now := []byte("ada"), time.Now()
	var a Account
	const tick = instant(time.Microsecond)
	asked := 9 * tick
	for name, drop := range map[string]func(){"alone": func() { c.drop(key) }, "with all": func() { c.dropAll(asked + tick) }} {
		generation := c.generation(key)
		drop()
		if c.keep(key, generation, now, &Account{Exists: true, record: record{asked: asked}}) || c.get(key, now, &a) {
			t.Errorf("dropped %s it was brought back", name)
		}
		asked += 2 * tick
		if !c.keep(key, c.generation(key), now, &Account{Exists: true, record: record{asked: asked}}) || !c.get(key, now, &a) {
			t.Errorf("dropped %s it cannot be kept again", name)
		}
	}
	if c.keep(key, c.generation(key), now, &Account{record: record{asked: 8 * tick}}); !c.get(key, now, &a) || !a.Exists {
		t.Error("an earlier lookup has overwritten a later one")
	}
}

func TestAnAccountIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 500_000_000, time.UTC)
	opened := at.Add(-time.Hour)
	for name, a := range map[string]Account{
		"none":        {},
		"all":         {Exists: true, Disabled: true, CreatedAt: at, ValidAfter: at.Add(1), AsOf: at.Add(time.Hour), Columns: [][]byte{[]byte("a@b.c"), nil, {}}, record: record{asked: 7000, window: 8, standby: true, watched: true}},
		"the usual":   {Exists: true, CreatedAt: at, AsOf: opened.Add(time.Minute), record: record{asked: instant(time.Minute)}},
		"of a future": {Exists: true, AsOf: opened.AddDate(250, 0, 0), record: record{asked: instant(opened.AddDate(250, 0, 0).Sub(opened))}},
		"long ago":    {Exists: true, CreatedAt: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), record: record{asked: -2000}},
	} {
		var got Account
		got.encoded = a.appendTo(nil, opened)
		got.decode(opened)
		if got.Exists != a.Exists || got.Disabled != a.Disabled || !got.CreatedAt.Equal(a.CreatedAt.Truncate(time.Microsecond)) ||
			!got.ValidAfter.Equal(a.ValidAfter.Truncate(time.Microsecond)) || !got.AsOf.Equal(a.AsOf) ||
			got.asked != a.asked || got.window != a.window || got.standby != a.standby || got.watched != a.watched {
			t.Errorf("%s: %+v", name, &got)
		}
		if fmt.Sprintf("%q", got.Columns) != fmt.Sprintf("%q", append([][]byte{}, a.Columns...)) {
			t.Errorf("%s: columns %q", name, got.Columns)
		}
	}
}

func TestWindowsOfRecentUse(t *testing.T) {
	r := recent{limit: 2}
	for _, c := range []struct {
		window uint32
		add    string
		added  bool
		want   string
	}{
		{1, "a", true, "[a]"},
		{1, "b", true, "[a b]"},
		{1, "c", false, "[a b]"},
		{2, "c", true, "[c a b]"},
		{3, "", false, "[c]"},
		{4, "d", true, "[d]"},
		{9, "e", true, "[e]"},
		{20, "", false, "[]"},
	} {
		if c.add != "" {
			if added := r.add(c.window, []byte(c.add)); added != c.added {
				t.Errorf("%s in %d was listed: %t", c.add, c.window, added)
			}
		}
		list := r.list(c.window)
		left, all := list.count, []string{}
		for subject := list.next(); subject != nil; subject = list.next() {
			all = append(all, string(subject))
		}
		if got := fmt.Sprint(all); got != c.want || left != len(all) {
			t.Errorf("in %d: %s, want %s, and %d", c.window, got, c.want, left)
		}
	}
}

// BenchmarkRecheck looks 10,000 accounts in use up again, as after a change.
func BenchmarkRecheck(b *testing.B) {
	const inUse = 10_000
	name := database(b, `create table "User" (id text primary key, name text, email text unique, "createdAt" timestamp(3) not null default current_timestamp)`,
		`insert into "User" (id, email) select 'clx0a1b2c0000qwer' || lpad(g::text, 8, '0'), g::text from generate_series(1, 100000) g`, `vacuum analyze "User"`)
	p, _ := open(b, server.DSN(name), Config{})
	w := p.watch
	conn, err := w.connect()
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := w.poll(conn); err != nil {
		b.Fatal(err)
	}
	for i := range inUse {
		subject := fmt.Sprintf("clx0a1b2c0000qwer%08d", i+1)
		p.accounts.set([]byte(subject), p.now(), &Account{Exists: true, record: record{window: 1}})
		w.recent.add(1, []byte(subject))
	}
	b.ReportAllocs()
	for b.Loop() {
		before := w.rechecked.Load()
		w.quiet.Store(int64(p.instant(p.now())))
		w.todo, w.credit, w.moved = w.recent.list(1), time.Hour, false
		if err := w.recheck(conn); err != nil || w.rechecked.Load() != before+inUse {
			b.Fatalf("%d looked up again, %v", w.rechecked.Load()-before, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/inUse, "ns/account")
}
