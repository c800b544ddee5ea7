package libraries

import (
	"os"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
)

func TestMain(m *testing.M) {
	accounts.DefaultTimeout, deadline.Query, deadline.Connect = time.Minute, time.Minute, time.Minute // tests run on slow machines
	os.Exit(m.Run())
}
