package revocation

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

// openPostgres opens a store, and calls identified with what identifies the users.
func openPostgres(t *testing.T, config postgres.Config, life time.Duration, identified func(string)) *Postgres {
	t.Helper()
	d, err := postgres.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	engine := accounts.Open(d, accounts.Config{Poll: 50 * time.Millisecond})
	t.Cleanup(func() { _ = engine.Close() })
	store := NewPostgres(life, identified)
	store.Use(d, true)
	engine.StartWatch()
	return store
}

func at(dsn string) postgres.Config {
	return postgres.Config{DSN: func() (string, error) { return dsn, nil }}
}

// knows reports whether sessions of a subject are revoked.
func knows(l *List, subject string) bool {
	_, found := l.Find([]byte(subject))
	return found
}

func revoke(t *testing.T, l *List, subject string, at time.Time) {
	t.Helper()
	if err := l.Revoke(t.Context(), Revocation{Subject: subject, At: at}); err != nil {
		t.Fatal(err)
	}
}

func TestAListBelongsToATable(t *testing.T) {
	database, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, database, `create schema a; create table a."User" (id text primary key); create schema b; create table b."User" (id text primary key)`, InstallSQL())
	node := func(address string) *List {
		return fleet{t, func(t *testing.T) Store { return openPostgres(t, at(address), 0, nil) }}.node()
	}
	dsn := server.DSN(database)
	a, b := node(dsn+"&schema=a"), node(dsn+"&schema=b")
	revoke(t, a, "u1", time.Now())
	revoke(t, b, "u2", time.Now())
	host, port, _ := net.SplitHostPort(server.Address())
	for name, address := range map[string]string{
		"another spelling": strings.Replace(dsn, host, "localhost", 1) + "&search_path=a",
		"another form":     fmt.Sprintf("host=%s port=%s user=postgres dbname=%s sslmode=disable search_path=a", host, port, database),
	} {
		other := node(address)
		eventually.Holds(t, name+": the revocation is known", func() bool { return knows(other, "u1") })
		if knows(other, "u2") {
			t.Errorf("%s: a user of another schema is revoked", name)
		}
	}
	eventually.Holds(t, "both are stored", func() bool { return !a.OutOfSync() && !b.OutOfSync() })
	if knows(a, "u2") || knows(b, "u1") {
		t.Error("two tables share a list")
	}
}

func TestCaddysStorageKnowsTheUsersByEveryAddress(t *testing.T) {
	database, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, database, `create table "User" (id text primary key)`)
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	node := func(address string) *List {
		local := NewStorage(storage, address, 0)
		l := Open(Config{Shared: openPostgres(t, at(address), 0, local.Name), Local: local, Logger: zap.NewNop})
		t.Cleanup(func() { _ = l.Close() })
		l.Await(t.Context())
		return l
	}
	dsn := server.DSN(database)
	first := node(dsn)
	eventually.Holds(t, "the users are identified", func() bool { return len(first.config.Local.(*Storage).files()) == 2 })
	revoke(t, first, "ada", time.Now())
	_ = first.Close()
	restarted := node(strings.Replace(dsn, "127.0.0.1", "localhost", 1))
	eventually.Holds(t, "the revocation is known", func() bool { return knows(restarted, "ada") })
}

func TestRedisKnowsTheUsersByEveryAddress(t *testing.T) {
	redis := startRedis(t)
	known := make(chan struct{})
	node := func(address, users string) *List {
		return fleet{t, func(t *testing.T) Store {
			store := openRedis(t, redis.URL(), address, 0)
			store.Use(func(context.Context) string {
				select {
				case <-known:
					return users
				default: // the database is away
					return ""
				}
			})
			return store
		}}.node()
	}
	one, other, stranger := node("one", "users"), node("other", "users"), node("stranger", "other users")
	revoke(t, one, "ada", time.Now())
	close(known)
	eventually.Holds(t, "what was revoked before is known", func() bool { return knows(other, "ada") })
	revoke(t, other, "bob", time.Now())
	eventually.Holds(t, "what is revoked now is known", func() bool { return knows(one, "bob") })
	if err := one.Restore(t.Context(), "ada", time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "what is restored is known", func() bool { return !knows(other, "ada") })
	for _, address := range []string{"one", "another"} {
		if late := node(address, "users"); !knows(late, "bob") || knows(late, "ada") {
			t.Errorf("%s: a node that starts knows bob %t, ada %t", address, knows(late, "bob"), knows(late, "ada"))
		}
	}
	if knows(stranger, "bob") {
		t.Error("other users share the list")
	}
}

// Before the database was reached once, only the name by the address is known.
func TestAFileThatLacksARevocationGetsIt(t *testing.T) {
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	one, other := NewStorage(storage, "one", 0), NewStorage(storage, "other", 0)
	for name, s := range map[string]*Storage{"ada": one, "bob": other} {
		if err := s.Put(t.Context(), []Revocation{{Subject: name, At: time.Now()}}); err != nil {
			t.Fatal(err)
		}
	}
	one.Name("other")
	for _, s := range []*Storage{one, other, NewStorage(storage, "one", 0)} {
		if all, err := s.load(t.Context()); err != nil || len(all) != 2 {
			t.Errorf("%v, %v", all, err)
		}
	}
}

func TestAShorterLifeForgetsNothingOfOthers(t *testing.T) {
	redis := startRedis(t)
	_, inTable := newUsers(t)
	files := &certmagic.FileStorage{Path: t.TempDir()}
	for name, open := range map[string]func(t *testing.T, life time.Duration) Config{
		"Postgres": func(t *testing.T, life time.Duration) Config {
			store := inTable(t).(*Postgres)
			store.life = cmp.Or(life, DefaultLife)
			return Config{Shared: store, Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", life)}
		},
		"Redis": func(t *testing.T, life time.Duration) Config {
			store := openRedis(t, redis.URL(), "users", life)
			return Config{Shared: store, Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", life)}
		},
		"Caddy's storage": func(_ *testing.T, life time.Duration) Config {
			return Config{Local: NewStorage(files, "users", life)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			node := func(life time.Duration) *List {
				config := open(t, life)
				config.Life, config.Logger = life, zap.NewNop
				l := Open(config)
				t.Cleanup(func() { _ = l.Close() })
				l.Await(t.Context())
				return l
			}
			old := time.Now().Add(-2 * time.Hour)
			revoke(t, node(0), "ada", old)
			short := node(time.Hour)
			revoke(t, short, "bob", time.Now())
			revoke(t, short, "ada", old.Add(time.Second))
			late := node(0)
			eventually.Holds(t, "both are known", func() bool { return knows(late, "ada") && knows(late, "bob") })
		})
	}
	for _, key := range []string{"sada", "sbob"} {
		answer, err := redis.Do(t.Context(), "TTL", keyPrefix("users")+key)
		if want := map[string]string{"sada": ":345", "sbob": ":3"}[key]; err != nil || !strings.HasPrefix(answer, want) {
			t.Errorf("%s lives for %q, %v", key, answer, err)
		}
	}
}

// The clock of another node, or somebody's SQL, can be wrong.
func TestATimeFarAheadDoesNotCount(t *testing.T) {
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			f := fleet{t, open}
			if err := open(t).Put(t.Context(), []Revocation{{Subject: "ada", At: time.Now().Add(30 * 24 * time.Hour)}, {Subject: "bob", At: time.Now().Add(time.Hour)}}); err != nil {
				t.Fatal(err)
			}
			a, b := f.node(), f.node()
			eventually.Holds(t, "an hour ahead counts", func() bool { return knows(a, "bob") && knows(b, "bob") })
			if knows(a, "ada") || knows(b, "ada") {
				t.Error("nobody can sign in for 30 days")
			}
			revoke(t, a, "ada", time.Now())
			eventually.Holds(t, "a revocation of now takes its place", func() bool { return knows(b, "ada") })
			if err := b.Restore(t.Context(), "ada", time.Now()); err != nil {
				t.Fatal(err)
			}
			eventually.Holds(t, "it is undone", func() bool { return !knows(a, "ada") })
		})
	}
}

func TestRevocationsAreHeardWithoutTheWatch(t *testing.T) {
	database, open := newUsers(t)
	config := at(server.DSN(database))
	config.ListenDSN = func() (string, error) { return "postgres://u@127.0.0.1:1/x", nil }
	revoke(t, fleet{t, open}.node(), "before", time.Now())
	deaf := fleet{t, func(t *testing.T) Store { return openPostgres(t, config, 0, nil) }}.node()
	eventually.Holds(t, "what was revoked before is known", func() bool { return knows(deaf, "before") })
	revoke(t, fleet{t, open}.node(), "after", time.Now())
	eventually.Holds(t, "what is revoked after is heard of", func() bool { return knows(deaf, "after") })
	if deaf.OutOfSync() {
		t.Error("the node says that it is out of sync")
	}
}

// A restore or a replica writes rows with the transaction of another time.
func TestRowsThatSomebodyElseWritesAreHeardOf(t *testing.T) {
	database, open := newUsers(t)
	node := fleet{t, open}.node()
	row := `insert into ` + table + ` (kind, id, at, restored, written) values ('s', '%s', now(), false, '3')`
	execute(t, database, fmt.Sprintf(row, "ada"))
	eventually.Holds(t, "a row with an old transaction is read", func() bool { return knows(node, "ada") })
	execute(t, database, postgres.UninstallSQL)
	execute(t, database, InstallSQL()+`alter table `+table+` disable trigger all; `+fmt.Sprintf(row, "bob")) // at once
	eventually.Holds(t, "a table that was restored is read", func() bool { return knows(node, "bob") })
}

// The table of an earlier version has no column for the users.
func TestTheTableOfAnEarlierVersionIsTakenOver(t *testing.T) {
	database, open := newUsers(t)
	execute(t, database, postgres.UninstallSQL, `create schema stale_session;
		create table `+table+` (kind text not null, id text not null, at timestamptz not null, restored boolean not null, written xid8 not null, primary key (kind, id));
		insert into `+table+` values ('s', 'ada', now(), false, '3')`)
	node := fleet{t, open}.node()
	if err := node.Revoke(t.Context(), Revocation{Subject: "bob", At: time.Now()}); err == nil || !strings.Contains(err.Error(), "install` again") {
		t.Errorf("error %v", err)
	}
	execute(t, database, InstallSQL(), InstallSQL())
	other := fleet{t, open}.node()
	eventually.Holds(t, "both are known", func() bool { return knows(other, "ada") && knows(other, "bob") })
	if err := other.Restore(t.Context(), "ada", time.Now()); err != nil {
		t.Fatal(err)
	}
	late := fleet{t, open}.node()
	eventually.Holds(t, "the undo counts", func() bool { return knows(late, "bob") && !knows(late, "ada") })
}
