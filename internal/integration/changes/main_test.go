// Package changes tests what comes of changes in the database: resets of every kind, and
// random histories of users and sessions.
package changes

import (
	"os"
	"testing"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

func TestMain(m *testing.M) { os.Exit(standardapp.Main(m.Run)) }

// execute runs SQL on a server of the test.
func execute(t testing.TB, pg *pgtest.Server, database string, commands ...string) {
	t.Helper()
	if err := pg.Exec(t.Context(), database, commands...); err != nil {
		t.Fatal(err)
	}
}
