// Package integration tests what only shows in a whole Caddy: configurations,
// reloads, streams and secrets.
package integration

import (
	"context"
	"os"
	"testing"
	"time"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	_ "github.com/seed-4adef13c/caddy-stale-session/redis"
)

const (
	secret     = "integration secret"
	cookieName = "next-auth.session-token"
)

// server is a real Postgres, which the tests of this package share.
var server *pgtest.Server

func TestMain(m *testing.M) {
	accounts.DefaultTimeout = time.Minute // tests run on slow machines
	if config := os.Getenv(nodeConfig); config != "" {
		runNode(config)
		return
	}
	query, connect := deadline.Query, deadline.Connect
	code := pgtest.Main(func(s *pgtest.Server) int {
		deadline.Query, deadline.Connect = query, connect // faults take as long as in production
		server = s
		return m.Run()
	})
	_ = os.RemoveAll(programs)
	os.Exit(code)
}

// newDatabase makes a database with the user "live", and sets the environment
// of a standard app.
func newDatabase(t testing.TB) string {
	t.Helper()
	name, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Exec(t.Context(), name, `create table "User" (id text primary key)`, `insert into "User" values ('live')`); err != nil {
		t.Fatal(err)
	}
	environment(t, server.DSN(name))
	return name
}

func environment(t testing.TB, dsn string) {
	t.Helper()
	t.Setenv("DATABASE_URL", dsn)
	t.Setenv("NEXTAUTH_SECRET", secret)
	for _, variable := range []string{"AUTH_SECRET", "AUTH_URL", "NEXTAUTH_URL", "STALE_SESSION_MODE"} {
		t.Setenv(variable, "")
	}
}

func execute(t testing.TB, database string, commands ...string) {
	t.Helper()
	if err := server.Exec(context.Background(), database, commands...); err != nil {
		t.Fatal(err)
	}
}

// session is the Cookie field of a subject.
func session(t testing.TB, subject string) string {
	t.Helper()
	token, err := mint.V4(secret, map[string]any{"sub": subject})
	if err != nil {
		t.Fatal(err)
	}
	return cookieName + "=" + token
}
