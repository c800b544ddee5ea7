package accounts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

const quickly = 20 * time.Millisecond

// watched opens the engine of a database, which polls quickly and whose
// accounts do not expire, and waits until it watches.
func watched(t testing.TB, dsn string, options postgres.Config) *Engine {
	t.Helper()
	e, _ := openWith(t, dsn, options, Config{Poll: quickly, TTL: time.Hour, AbsentTTL: time.Hour})
	e.StartWatch()
	eventually.Holds(t, "the database is watched", func() bool { return e.Stats().Watching })
	return e
}

// gated is a shelf with a gate, which reports no change.
type gated struct {
	shelf
	value  string        // of the gate
	server string        // that the gate is of
	shows  error         // why lookups fail
	broken chan struct{} // closed to end the watch
}

func (g *gated) Watch(context.Context, func(...string)) (directories.Watch, error) {
	g.set(func() { g.broken = make(chan struct{}) })
	return gate{g, g.broken}, nil
}

// gate is the gate of a shelf.
type gate struct {
	*gated
	broken chan struct{}
}

func (g gate) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-g.broken:
		return errors.New("the connection was lost")
	}
}

func (g gate) Read(context.Context) (reading directories.Reading, err error) {
	g.set(func() { reading.Value, reading.Server, reading.Failure = g.value, g.server, g.shows })
	return reading, nil
}

func (gate) Close() error { return nil }

func TestEveryChangeIsNoticedWithNothingInstalled(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id text primary key, email text, banned boolean); insert into users values ('ada', 'a@b.c'), ('bob', 'b@b.c')`)
	e := watched(t, server.DSN(name), postgres.Config{Users: postgres.Users{Match: map[string]string{"email": "email"}}})
	look(t, e, "ada")
	look(t, e, "bob")
	run(t, name, `update users set banned = true where id = 'ada'`)
	becomes(t, e, "ada", "is banned", disabled)
	run(t, name, `update users set banned = false, email = 'new@b.c' where id = 'ada'`)
	becomes(t, e, "ada", "has another address", func(a *Account) bool { return here(a) && string(a.Matched[0]) == "new@b.c" })
	run(t, name, `delete from users where id = 'ada'`)
	becomes(t, e, "ada", "is gone", gone)
	run(t, name, `insert into users values ('ada')`)
	becomes(t, e, "ada", "is there again", here)
	if account := look(t, e, "bob"); !here(account) {
		t.Errorf("bob: %+v", account)
	}
}

func TestAccountsInUseAreServedWhileOthersWriteAllTheTime(t *testing.T) {
	t.Parallel()
	const users = 200
	name := database(t, oneUser, `create table other (n int)`, fmt.Sprintf(`insert into users select 'u' || g from generate_series(1, %d) g`, users))
	e := watched(t, server.DSN(name), postgres.Config{})
	for i := range users {
		inUse(t, e, "u"+strconv.Itoa(i+1))
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
	defer all.Wait()
	defer stop.Store(true)
	before := e.Stats().Rechecked
	cached, asked := 0, 0
	eventually.Holds(t, "the accounts are checked again and again", func() bool {
		for i := range users {
			switch _, source, err := ask(e, "u"+strconv.Itoa(i+1), time.Time{}); {
			case err != nil:
				t.Fatal(err)
			case source == FromCache:
				cached++
			default:
				asked++
			}
		}
		return e.Stats().Rechecked > before+1000
	})
	run(t, name, `delete from users where id = 'u7'`)
	becomes(t, e, "u7", "is gone", gone)
	if asked > cached/10 {
		t.Errorf("%d lookups waited for the database, %d did not", asked, cached)
	}
}

func TestAnAccountThatIsNotInUseIsLookedUpAtItsNextRequest(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	e := watched(t, server.DSN(name), postgres.Config{})
	look(t, e, "live") // once: it is not in use
	run(t, name, `delete from users`)
	eventually.Holds(t, "the change is noticed", func() bool {
		var a Account
		return e.store.get([]byte("live"), e.now(), &a) && !e.watch.holds(&a)
	})
	if account, source, err := ask(e, "live", time.Time{}); err != nil || source != FromDatabase || account.Exists {
		t.Errorf("%+v, %s, %v", account, source, err)
	}
}

// A user who came into use just as a change was noticed was not among those who
// were looked up again: it must not count as if it had been.
func TestAnAccountThatCameIntoUseTooLateToBeListedIsLookedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gated{value: "1", shelf: shelf{users: map[string]directories.Account{"ada": {Exists: true}}}}
		e := openShelf(t, g, Config{TTL: time.Hour})
		said(e, "ada")
		said(e, "ada") // in use from here on
		var known Account
		if !e.store.get([]byte("ada"), e.now(), &known) || known.window == 0 || !e.watch.holds(&known) || e.watch.behind.Load() != 0 {
			t.Fatalf("ada is not in use, or does not hold: %+v", &known)
		}
		time.Sleep(time.Millisecond)
		now := e.instant(e.now())
		e.watch.quiet.Store(int64(now)) // as if something was changed, and all who were listed are looked up again
		if e.fresh(&known, now, false) {
			t.Error("it is used without a lookup, for as long as accounts last")
		}
		e.watch.behind.Store(int64(now)) // they are still being looked up
		if !e.fresh(&known, now, false) {
			t.Error("its request has to wait although it is about to be looked up")
		}
		if e.fresh(&known, now, true) {
			t.Error("it would end a session although it may have changed")
		}
	})
}

func TestWithoutTheWatchNothingIsTrustedForLong(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	nowhere := "postgres://postgres@127.0.0.1:1/postgres?sslmode=disable&connect_timeout=1"
	listen := postgres.Config{ListenDSN: func() (string, error) { return nowhere, nil }}
	e, lines := openWith(t, server.DSN(name), listen, Config{TTL: time.Hour})
	start := time.Now()
	var ahead atomic.Int64
	e.now = func() time.Time { return start.Add(time.Duration(ahead.Load())) }
	look(t, e, "live")
	for _, c := range []struct {
		later  time.Duration
		source Source
	}{{0, FromCache}, {time.Duration(unwatchedTTL) - time.Second, FromCache}, {time.Duration(unwatchedTTL) + time.Second, FromDatabase}} {
		ahead.Store(int64(c.later))
		if account, source, err := ask(e, "live", time.Time{}); err != nil || !account.Exists || source != c.source {
			t.Errorf("after %s: %+v, %s, %v", c.later, account, source, err)
		}
	}
	eventually.Holds(t, "it is logged", func() bool {
		return lines.FilterMessageSnippet("lost the connection that watches for changes").Len() > 0
	})
	if e.Stats().Watching {
		t.Error("it watches nowhere")
	}
}

func TestANewConnectionOfTheWatchTrustsNothingFromBefore(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	e := watched(t, server.DSN(name), postgres.Config{})
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for range 5 {
		look(t, e, "live")
		eventually.Holds(t, "the connection of the watch is ended", func() bool {
			var ended bool
			if err := conn.QueryRow(t.Context(), `select coalesce(bool_or(pg_terminate_backend(pid)), false) from pg_stat_activity
where datname = current_database() and query like '%pg_current_snapshot%' and pid <> pg_backend_pid()`).Scan(&ended); err != nil {
				t.Fatal(err)
			}
			return ended
		})
		// What is changed while the connection is away, only a new look tells.
		run(t, name, `delete from users`)
		becomes(t, e, "live", "is gone", gone)
		run(t, name, `insert into users values ('live')`)
		becomes(t, e, "live", "is there again", here)
	}
}

// The value of a gate can be any text: none, say, once all users are gone.
func TestANewConnectionToAGateTrustsNothingFromBefore(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"the same value": "1", "another value": "2", "no value": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &gated{value: "1", shelf: shelf{users: map[string]directories.Account{"ada": {Exists: true}}}}
				e := openShelf(t, g, Config{TTL: time.Hour})
				if got := said(e, "ada"); got != "there" {
					t.Errorf("ada is %s", got)
				}
				time.Sleep(time.Millisecond)
				g.set(func() { g.users, g.value = nil, value; close(g.broken) })
				synctest.Wait()
				if e.Stats().Watching {
					t.Error("the connection was lost, but it watches")
				}
				time.Sleep(minRetry)
				synctest.Wait()
				if got := said(e, "ada"); got != "gone" || !e.Stats().Watching {
					t.Errorf("ada is %s, and it watches again: %t", got, e.Stats().Watching)
				}
			})
		})
	}
}

// One address may lead to several servers, such as two standbys. The gate of one
// says nothing of what another has answered.
func TestTheGateOfAnotherServerIsNotTrusted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gated{value: "1", server: "one", shelf: shelf{users: map[string]directories.Account{
			"ada": {Exists: true, Server: "one"}, "bob": {Exists: true, Server: "other"}, "eve": {Exists: true, Disabled: true, Server: "other"},
		}}}
		e := openShelf(t, g, Config{TTL: time.Hour})
		if a, b := said(e, "ada"), said(e, "bob"); a != "there" || b != "there" {
			t.Errorf("ada is %s, bob is %s", a, b)
		}
		if account, _, err := ask(e, "eve", time.Time{}); err != nil || !account.Disabled {
			t.Errorf("eve is %+v, %v", account, err)
		}
		g.set(func() { g.users["eve"] = directories.Account{Exists: true, Server: "other"} }) // and the gate stays closed
		eve := new(Account)
		query := Query{Query: directories.Query{Subject: []byte("eve")}, Now: e.now(), Ending: true}
		if _, err := e.Lookup(t.Context(), query, eve); err != nil || eve.Disabled {
			t.Errorf("eve, who is no longer banned, is %+v, %v", eve, err)
		}
		g.set(func() { g.users = nil })
		time.Sleep(time.Duration(unwatchedTTL))
		if a, b := said(e, "ada"), said(e, "bob"); a != "there" || b != "gone" {
			t.Errorf("ada is %s, bob is %s; want there and gone", a, b)
		}
	})
}

// What the gate shows is said at once, once, and until it is over.
func TestAFailureThatTheGateShowsIsSaidWithoutARequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zap.InfoLevel)
		g := &gated{value: "1"}
		e := openShelf(t, g, Config{Logger: func() *zap.Logger { return zap.New(core) }})
		failed := func() int { return lines.FilterMessage("user lookup failed; sessions pass unchecked").Len() }
		for i, text := range []string{"a table lacks a right", "a schema lacks a right", "a schema lacks a right"} {
			failure := &directories.Error{Class: directories.Rights, Text: text}
			g.set(func() { g.value, g.shows, g.failure = fmt.Sprint("before ", i), failure, failure })
			time.Sleep(5 * time.Second)
			if says, n := e.Stats().Failure, failed(); says != text || n != min(i+1, 2) {
				t.Errorf("%d: the state says %q, and %d lines are logged", i, says, n)
			}
		}
		g.set(func() { g.value, g.shows, g.failure = "2", nil, nil })
		time.Sleep(5 * time.Second)
		if says, n := e.Stats().Failure, lines.FilterMessage("user lookup recovered").Len(); says != "" || n != 1 {
			t.Errorf("the state says %q, and %d recoveries are logged", says, n)
		}
	})
}

// TestNoDeletedUserStaysKnown races lookups against deletions that are
// notified: a lookup that began before must not bring the account back.
func TestNoDeletedUserStaysKnown(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id text primary key)`)
	e := watched(t, server.DSN(name), postgres.Config{})
	d := e.Directory().(*postgres.Directory)
	install, err := d.InstallSQL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context(), install); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "changes are notified", func() bool { return e.Stats().Notified })
	const users = 200
	run(t, name, fmt.Sprintf(`insert into users select 'u' || g from generate_series(1, %d) g`, users))
	var all sync.WaitGroup
	var stop atomic.Bool
	for range 4 {
		all.Go(func() {
			for !stop.Load() {
				for i := range users {
					if _, _, err := ask(e, "u"+strconv.Itoa(i+1), time.Time{}); err != nil {
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
	notified := e.Stats().Notifications
	for i := range users {
		if _, err := conn.Exec(t.Context(), `delete from users where id = $1`, "u"+strconv.Itoa(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	eventually.Holds(t, "the notifications have arrived", func() bool { return e.Stats().Notifications >= notified+users })
	stop.Store(true)
	all.Wait()
	e.watch.quiet.Store(0) // from here on only what was dropped is looked up
	known := 0
	for i := range users {
		if account, _, err := ask(e, "u"+strconv.Itoa(i+1), time.Time{}); err != nil || account.Exists {
			known++
		}
	}
	if known > 0 {
		t.Errorf("%d of %d deleted users are known", known, users)
	}
}
