package revocation

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
)

// server is the Postgres that the tests of this package share.
var server *pgtest.Server

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(func(s *pgtest.Server) int {
		server = s
		return m.Run()
	}))
}

// fleet opens lists that share a store.
type fleet struct {
	t    *testing.T
	open func(t *testing.T) Store
}

// node opens the list of another node.
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
		t.Fatalf("%q: %v, %s", words, err, answer)
	}
}

// OpenRedis opens the store of a users table in the Redis at an address.
var OpenRedis func(url, name string, life time.Duration) (Remote, error)

func openRedis(t *testing.T, url, name string, life time.Duration) Remote {
	t.Helper()
	store, err := OpenRedis(url, name, life)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func inRedis(url string) func(t *testing.T) Store {
	return func(t *testing.T) Store {
		t.Helper()
		return openRedis(t, url, "users", 0)
	}
}

// keyPrefix returns the prefix of the keys of users in Redis, by their name. Nodes of
// earlier versions have the same.
func keyPrefix(users string) string {
	digest := sha256.Sum256([]byte(users))
	return fmt.Sprintf("stale_session:revoked:%x:", digest[:8])
}

// newUsers creates a database with users and the table of revocations. It returns
// a function that opens the store of a node.
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
		store := NewPostgres(0, nil)
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

// stores returns, for each kind of shared store, a function that opens the store
// of a node.
func stores(t *testing.T) map[string]func(t *testing.T) Store {
	_, open := newUsers(t)
	return map[string]func(t *testing.T) Store{
		"Redis": inRedis(startRedis(t).URL()), "Redis cluster": inRedis(startCluster(t).Primaries[0].URL()), "Postgres": open,
	}
}
