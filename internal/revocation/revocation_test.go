package revocation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
)

// server is a real Postgres, which the tests of this package share.
var server *pgtest.Server

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(func(s *pgtest.Server) int {
		server = s
		return m.Run()
	}))
}

// fleet makes lists that share a store.
type fleet struct {
	t    *testing.T
	open func(t *testing.T) Store
}

// node returns a list of its own, as another node has it.
func (f fleet) node() *List {
	f.t.Helper()
	storage := &certmagic.FileStorage{Path: f.t.TempDir()}
	l := Open(Config{Shared: f.open(f.t), Local: NewStorage(storage, "users", 0), Logger: zap.NewNop})
	f.t.Cleanup(func() { _ = l.Close() })
	l.Await(f.t.Context())
	return l
}

func startRedis(t *testing.T) *redistest.Server {
	t.Helper()
	s, err := redistest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func startCluster(t *testing.T) *redistest.Cluster {
	t.Helper()
	c, err := redistest.StartCluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func do(t *testing.T, s *redistest.Server, words ...string) {
	t.Helper()
	if answer, err := s.Do(context.Background(), words...); err != nil || strings.HasPrefix(answer, "-") {
		t.Fatalf("%q: %v %s", words, err, answer)
	}
}

func inRedis(url string) func(t *testing.T) Store {
	return func(t *testing.T) Store {
		t.Helper()
		store, err := OpenRedis(func() (string, error) { return url, nil }, "users", 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		return store
	}
}

// newUsers makes a database of users with the table of revocations, and returns
// what opens the store of a node.
func newUsers(t *testing.T) (database string, open func(t *testing.T) Store) {
	t.Helper()
	database, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, database, `create table "User" (id text primary key)`, InstallSQL())
	return database, inPostgres(server.DSN(database))
}

func inPostgres(dsn string) func(t *testing.T) Store {
	return func(t *testing.T) Store {
		t.Helper()
		d, err := postgres.Open(postgres.Config{DSN: func() (string, error) { return dsn, nil }})
		if err != nil {
			t.Fatal(err)
		}
		engine := accounts.Open(d, accounts.Config{Poll: 50 * time.Millisecond})
		t.Cleanup(func() { _ = engine.Close() })
		store := NewPostgres(0)
		store.Use(d, true)
		engine.StartWatch()
		return store
	}
}

func execute(t *testing.T, database string, commands ...string) {
	t.Helper()
	if err := server.Exec(context.Background(), database, commands...); err != nil {
		t.Fatal(err)
	}
}

// stores are the stores that nodes can share.
func stores(t *testing.T) map[string]func(t *testing.T) Store {
	_, open := newUsers(t)
	return map[string]func(t *testing.T) Store{
		"Redis": inRedis(startRedis(t).URL()), "a Redis cluster": inRedis(startCluster(t).Primaries[0].URL()), "Postgres": open,
	}
}

func TestWhatOneNodeRevokesAllRefuse(t *testing.T) {
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			f := fleet{t, open}
			nodes := []*List{f.node(), f.node(), f.node()}
			at := time.Now()
			for i, r := range []Revocation{{Subject: "ada", At: at}, {Session: "sid-1", At: at}, {Token: "jti-1", At: at}} {
				if err := nodes[i].Revoke(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			for i, node := range nodes {
				eventually.Holds(t, fmt.Sprintf("node %d knows of all", i), func() bool {
					until, found := node.Find([]byte("ada"))
					return found && until.Sub(at).Abs() < time.Microsecond && node.Ended([]byte("sid-1"), nil) && node.Ended(nil, []byte("jti-1"))
				})
				if _, found := node.Find([]byte("sid-1")); found || node.Ended([]byte("ada"), []byte("sid-1")) {
					t.Error("a subject, a session and a token with the same id were confused")
				}
			}
			if err := nodes[2].Restore(t.Context(), "ada", time.Now()); err != nil {
				t.Fatal(err)
			}
			for i, node := range nodes {
				eventually.Holds(t, fmt.Sprintf("node %d knows that it was taken back", i), func() bool { _, found := node.Find([]byte("ada")); return !found })
			}
			late := f.node()
			if _, found := late.Find([]byte("ada")); found || !late.Ended([]byte("sid-1"), nil) {
				t.Error("a node that starts later does not know the same")
			}
			if err := late.Restore(t.Context(), "ada", time.Now()); !errors.Is(err, ErrNone) {
				t.Errorf("restored twice: %v", err)
			}
		})
	}
}

func TestATakeoverInAClusterLosesNoRevocation(t *testing.T) {
	c := startCluster(t)
	f := fleet{t, inRedis(c.Primaries[1].URL())}
	nodes := []*List{f.node(), f.node()}
	revoke := func(subject string) {
		eventually.Holds(t, subject+" can be revoked on the cluster", func() bool {
			_ = nodes[0].Revoke(t.Context(), Revocation{Subject: subject, At: time.Now()}) // while it cannot, it is told later
			_, found := nodes[1].Find([]byte(subject))
			return found
		})
	}
	for i := range 20 { // on all of its servers
		revoke(fmt.Sprint("before", i))
	}
	if err := c.Primaries[0].Kill(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		revoke(fmt.Sprint("after", i))
	}
	nodes = append(nodes, f.node())
	for n, node := range nodes {
		for i := range 20 {
			for _, when := range []string{"before", "after"} {
				subject := fmt.Sprint(when, i)
				eventually.Holds(t, fmt.Sprintf("node %d knows of %s", n, subject), func() bool { _, found := node.Find([]byte(subject)); return found })
			}
		}
	}
}

func TestRedisAwayChangesNothingAndIsToldLater(t *testing.T) {
	redis := startRedis(t)
	f := fleet{t, inRedis(redis.URL())}
	a, b := f.node(), f.node()
	if err := a.Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	known := func(l *List, subject string) bool { _, found := l.Find([]byte(subject)); return found }
	eventually.Holds(t, "both know", func() bool { return known(b, "ada") })

	if err := redis.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "both have lost it", func() bool { return a.Lost() && b.Lost() })
	if !known(a, "ada") || !known(b, "ada") {
		t.Error("what was known is forgotten")
	}
	if err := a.Revoke(t.Context(), Revocation{Subject: "bob", At: time.Now()}); err == nil {
		t.Error("no error, though others do not know")
	}
	if !known(a, "bob") {
		t.Error("it does not hold on its own node")
	}
	if err := redis.Restart(t.Context()); err != nil { // with nothing in it
		t.Fatal(err)
	}
	eventually.Holds(t, "the other node knows", func() bool { return known(b, "bob") })
	eventually.Holds(t, "a new node knows what Redis had lost", func() bool { c := f.node(); return known(c, "ada") && known(c, "bob") })
}

// A Redis that takes no writes goes on being read: it is never lost.
func TestARedisThatTakesNoWritesIsToldLater(t *testing.T) {
	redis := startRedis(t)
	f := fleet{t, inRedis(redis.URL())}
	for name, c := range map[string]struct {
		begin, end []string
		says       string
	}{
		"out of memory": {[]string{"CONFIG", "SET", "maxmemory", "1"}, []string{"CONFIG", "SET", "maxmemory", "0"}, "out of memory"},
		"a replica":     {[]string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"}, "a replica"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := f.node(), f.node()
			do(t, redis, c.begin...)
			if err := a.Revoke(t.Context(), Revocation{Subject: name, At: time.Now()}); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %v", err)
			}
			if !a.Lost() || b.Lost() {
				t.Error("nothing says that others do not know")
			}
			do(t, redis, c.end...)
			eventually.Holds(t, "the other node knows", func() bool { _, found := b.Find([]byte(name)); return found })
			eventually.Holds(t, "all is told", func() bool { return !a.Lost() })
		})
	}
}

// Two nodes that put back what Redis has lost may do so in any order.
func TestAnOlderWordInRedisIsPutRight(t *testing.T) {
	redis := startRedis(t)
	open := inRedis(redis.URL())
	key := open(t).(*Redis).prefix + "sada"
	f := fleet{t, open}
	a := f.node()
	for n, write := range map[string]func(older string){
		"at once": func(older string) { do(t, redis, "SET", key, older) },
		"while it is not heard of": func(older string) {
			do(t, redis, "SET", key, older)
			do(t, redis, "CLIENT", "KILL", "TYPE", "normal")
		},
	} {
		t.Run(n, func(t *testing.T) {
			older := "-" + strconv.FormatInt(time.Now().UnixMicro()-1, 10)
			eventually.Holds(t, "it is revoked", func() bool { return a.Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}) == nil })
			write(older)
			eventually.Holds(t, "Redis has the latest word", func() bool {
				text, err := redis.Do(t.Context(), "GET", key)
				return err == nil && strings.HasPrefix(text, "$16")
			})
			if _, found := f.node().Find([]byte("ada")); !found {
				t.Error("a new node does not know")
			}
		})
	}
}

// TestWhatWasWrittenIsNotWrittenAgain though clocks are finer than what stores
// keep, and each node hears of what it has written itself.
func TestWhatWasWrittenIsNotWrittenAgain(t *testing.T) {
	redis := startRedis(t)
	f := fleet{t, inRedis(redis.URL())}
	a, b := f.node(), f.node()
	const users = 20
	for i := range users {
		user := fmt.Sprint("user", i)
		at := time.Now().Truncate(time.Microsecond).Add(999)
		if err := a.Revoke(t.Context(), Revocation{Subject: user, At: at}); err != nil {
			t.Fatal(err)
		}
		eventually.Holds(t, "the other node knows", func() bool { _, found := b.Find([]byte(user)); return found })
	}
	if err := a.Restore(t.Context(), "user0", time.Now().Add(time.Second).Truncate(time.Microsecond).Add(999)); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the other node knows", func() bool { _, found := b.Find([]byte("user0")); return !found })
	text, err := redis.Do(t.Context(), "INFO", "commandstats")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("cmdstat_set:calls=%d,", users+1); !strings.Contains(text, want) {
		_, calls, _ := strings.Cut(text, "cmdstat_set:")
		t.Errorf("%d changes led to cmdstat_set:%.20s", users+1, calls)
	}
}

// Whoever else writes below the prefix ends no session, and keeps nobody from
// hearing of those that were ended.
func TestValuesThatAreNoRevocationsAreLeftOut(t *testing.T) {
	redis := startRedis(t)
	open := inRedis(redis.URL())
	prefix := open(t).(*Redis).prefix
	year := strconv.FormatInt(time.Now().Add(365*24*time.Hour).UnixMicro(), 10)
	write := func() {
		do(t, redis, "RPUSH", prefix+"slist", "x")
		do(t, redis, "HSET", prefix+"shash", "x", "y")
		do(t, redis, "SET", prefix+"sgarbage", "\x00\xff")
		do(t, redis, "SET", prefix+"shuge", strings.Repeat("9", 30))
		do(t, redis, "SET", prefix+"sahead", year)
		do(t, redis, "SET", prefix+"sbehind", "-"+year)
	}
	write()
	f := fleet{t, open}
	a, b := f.node(), f.node()
	do(t, redis, "DEL", prefix+"slist", prefix+"shash")
	write() // now they are told of each
	if err := a.Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the other node knows", func() bool { _, found := b.Find([]byte("ada")); return found })
	c := f.node()
	for _, node := range []*List{a, b, c} {
		if all := AllOf([]*List{node}); len(all) != 1 || node.Lost() {
			t.Errorf("%v hold; lost: %v", all, node.Lost())
		}
	}
	for _, subject := range []string{"list", "ahead", "behind"} { // it can be revoked all the same
		if err := a.Revoke(t.Context(), Revocation{Subject: subject, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		eventually.Holds(t, "the other node knows of "+subject, func() bool { _, found := b.Find([]byte(subject)); return found })
	}
}

func TestAListenerThatIsCutOffMissesNothing(t *testing.T) {
	database, open := newUsers(t)
	redis := startRedis(t)
	for name, c := range map[string]struct {
		open func(*testing.T) Store
		cut  func()
	}{
		"Postgres": {open, func() {
			execute(t, "postgres", fmt.Sprintf(`select pg_terminate_backend(pid) from pg_stat_activity where datname = '%s'`, database))
		}},
		"Redis": {inRedis(redis.URL()), func() {
			if _, err := redis.Do(context.Background(), "CLIENT", "KILL", "TYPE", "normal"); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := fleet{t, c.open}
			a, b := f.node(), f.node()
			for n := range 60 {
				if n%20 == 10 {
					c.cut()
				}
				// One that fails is told later.
				_ = a.Revoke(t.Context(), Revocation{Subject: fmt.Sprint(n), At: time.Now()})
			}
			for n := range 60 {
				eventually.Holds(t, fmt.Sprintf("the other node knows of %d", n), func() bool { _, found := b.Find([]byte(fmt.Sprint(n))); return found })
			}
		})
	}
}

func TestWithoutTheTableRevocationsAreKeptInCaddysStorage(t *testing.T) {
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
		t.Error("it does not outlive the node")
	}
	// Once the table is there, it is put there.
	execute(t, database, InstallSQL())
	other := Open(Config{Shared: inPostgres(server.DSN(database))(t), Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0), Logger: zap.NewNop})
	defer other.Close()
	other.Await(t.Context())
	eventually.Holds(t, "another node knows through the table", func() bool { _, found := other.Find([]byte("ada")); return found })
}

// TestWhatIsTakenBackInTheTableIsTakenBackInCaddysStorage: the table may be
// gone when Caddy is started again.
func TestWhatIsTakenBackInTheTableIsTakenBackInCaddysStorage(t *testing.T) {
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
	eventually.Holds(t, "another node knows through the table", func() bool { _, found := b.Find([]byte("ada")); return found })
	if err := b.Restore(t.Context(), "ada", time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the node knows that it is taken back", func() bool { _, found := a.Find([]byte("ada")); return !found })
	node(storage, a) // reads the storage again
	eventually.Holds(t, "the storage knows it, too", func() bool {
		all, err := storage.load(t.Context())
		return err == nil && len(all) == 1 && all[0].Restored
	})
	execute(t, database, postgres.UninstallSQL)
	if _, found := node(storage, nil).Find([]byte("ada")); found {
		t.Error("it is revoked again")
	}
}

func TestWhatIsTakenOverOutlivesARestart(t *testing.T) {
	open := func() (*List, *Storage) {
		storage := NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0)
		l := Open(Config{Local: storage, Logger: zap.NewNop})
		t.Cleanup(func() { _ = l.Close() })
		return l, storage
	}
	before, _ := open()
	old := time.Now().Add(-2 * DefaultLife)
	before.merge([]Revocation{{Subject: "bob", At: old}})
	if err := before.Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	l, storage := open()
	l.Adopt(before)
	l.Await(t.Context())
	eventually.Holds(t, "the other storage holds it", func() bool {
		all, err := storage.load(t.Context())
		return err == nil && len(all) == 1 && all[0].Subject == "ada"
	})
}

func TestARevocationIsKeptThoughWhoAskedForItHangsUp(t *testing.T) {
	server := startRedis(t)
	local := NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0)
	l := Open(Config{Shared: inRedis(server.URL())(t), Local: local, Logger: zap.NewNop})
	defer l.Close()
	l.Await(t.Context())
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Revoke(ctx, Revocation{Subject: "ada", At: time.Now()}); err == nil {
		t.Error("others are said to know")
	}
	if all, err := local.load(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("after a restart nothing would be known of it: %v, %v", all, err)
	}
}

// stuck is a store that has lost everything, and takes nothing.
type stuck struct{ putting, told chan struct{} }

func (stuck) String() string { return "a store" }

func (s stuck) Put(ctx context.Context, _ []Revocation) error {
	s.putting <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (s stuck) Follow(ctx context.Context, merge func([]Revocation, bool)) error {
	merge(nil, true)
	s.told <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// What a store tells comes on the connection of the watch, which must go on.
func TestAStoreThatTellsDoesNotWaitForWhatIsPutBack(t *testing.T) {
	store := stuck{make(chan struct{}, 100), make(chan struct{}, 100)}
	l := Open(Config{Shared: store, Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0), Logger: zap.NewNop})
	defer l.Close()
	l.merge([]Revocation{{Subject: "ada", At: time.Now()}})
	go l.Await(t.Context())
	<-store.putting
	select {
	case <-store.told:
	default:
		t.Error("it waits")
	}
	if !l.Lost() {
		t.Error("others are said to know")
	}
}

func TestADirectoryThatIsWatchedIsFollowed(t *testing.T) {
	_, open := newUsers(t)
	unwatched, err := postgres.Open(postgres.Config{DSN: func() (string, error) { return "postgres://u@127.0.0.1:1/x", nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer unwatched.Close()
	watched := open(t).(*Postgres).users[0].Directory
	store := NewPostgres(0)
	for _, step := range []struct {
		what    string
		do      func() func()
		follows *postgres.Directory
		changes bool
	}{
		{"the first is not watched", func() func() { return store.Use(unwatched, false) }, unwatched, true},
		{"the second is", func() func() { return store.Use(watched, true) }, watched, true},
		{"a third is too", func() func() { return store.Use(watched, true) }, watched, false},
	} {
		_, changed := store.first()
		leave := step.do()
		defer func() {
			leave()
			if d, _ := store.first(); d.Directory == nil && len(store.users) > 0 {
				t.Error("none is used")
			}
		}()
		if d, _ := store.first(); d.Directory != step.follows {
			t.Errorf("%s: %v is used", step.what, d)
		}
		select {
		case <-changed:
			if !step.changes {
				t.Errorf("%s: it begins anew", step.what)
			}
		default:
			if step.changes {
				t.Errorf("%s: who follows the other one is not told", step.what)
			}
		}
	}
}

func TestTheLatestWordCounts(t *testing.T) {
	l := Open(Config{})
	now := time.Now()
	l.merge([]Revocation{{Subject: "ada", At: now}})
	l.merge([]Revocation{{Subject: "ada", At: now.Add(-time.Hour), Restored: true}})
	if _, found := l.Find([]byte("ada")); !found {
		t.Error("an older word counts")
	}
	l.merge([]Revocation{{Subject: "ada", At: now.Add(time.Second), Restored: true}})
	if _, found := l.Find([]byte("ada")); found {
		t.Error("it was taken back")
	}
	if len(AllOf([]*List{l})) != 0 {
		t.Errorf("%v hold", AllOf([]*List{l}))
	}
}

func TestRevocationsThatCannotBeAreRefused(t *testing.T) {
	l := Open(Config{Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0)})
	defer l.Close()
	for name, r := range map[string]Revocation{
		"of nobody":           {},
		"of two at once":      {Subject: "a", Session: "b"},
		"of a huge subject":   {Subject: string(slices.Repeat([]byte("x"), MaxID+1))},
		"of one with a zero":  {Subject: "a\x00b"},
		"of a session and id": {Session: "a", Token: "b"},
	} {
		if err := l.Revoke(t.Context(), r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestUninstallLeavesNoTable(t *testing.T) {
	database, _ := newUsers(t)
	execute(t, database, InstallSQL("postgres"), postgres.UninstallSQL)
	if err := server.Exec(t.Context(), database, "create schema stale_session", "select 1 from stale_session.revocations"); err == nil {
		t.Error("the table is there")
	}
}
