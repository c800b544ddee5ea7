// Package integration tests what only shows in a whole Caddy: configurations, commands,
// the admin API and secrets.
package integration

import (
	"os"
	"testing"
	"time"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
	_ "github.com/seed-4adef13c/caddy-stale-session/redis"
)

func TestMain(m *testing.M) {
	deadline.Lock = time.Minute // a test holds lookups up by one
	code := standardapp.Main(m.Run)
	_ = os.RemoveAll(programs)
	os.Exit(code)
}
