// Package faults tests what comes of faults, in one Caddy and in a fleet: no live session
// ends, and what has ended stays ended.
package faults

import (
	"os"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
	_ "github.com/seed-4adef13c/caddy-stale-session/redis"
)

func TestMain(m *testing.M) {
	if os.Getenv(isCaddy) != "" {
		caddycmd.Main()
		return
	}
	query, connect := deadline.Query, deadline.Connect
	os.Exit(standardapp.Main(func() int {
		deadline.Query, deadline.Connect = query, connect // faults take as long as in production
		return m.Run()
	}))
}
