package integration

import (
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestACleanupEndsWithItsConfiguration has no run: these are once a minute at
// most. internal/cleanup tests them.
func TestACleanupEndsWithItsConfiguration(t *testing.T) {
	database := standardapp.NewDatabase(t)
	log, options := caddytest.NewLog(t)
	site := caddytest.Site("stale_session {", "	cleanup {", "		every 1m", "	}", "}", "respond ok")
	base := caddytest.Start(t, options+site[len(caddytest.Options):])
	if status := caddytest.Ask(t, base, standardapp.Session(t, "live")); status != 200 {
		t.Errorf("status %d: %s", status, log.Text(t))
	}
	if n := len(standardapp.Backends(t, database)); n == 0 {
		t.Error("nobody is connected")
	}
	if err := caddytest.Load(caddytest.Site("respond ok")); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "all connections are closed", func() bool { return len(standardapp.Backends(t, database)) == 0 })
}
