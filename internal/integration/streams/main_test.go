// Package streams tests in a whole Caddy what lasts: streams, uploads, connections and
// reloads.
package streams

import (
	"os"
	"testing"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

func TestMain(m *testing.M) { os.Exit(standardapp.Main(m.Run)) }
