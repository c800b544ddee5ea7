package libraries

import (
	"os"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

func TestMain(m *testing.M) {
	accounts.DefaultTimeout = time.Minute // tests run on slow machines
	os.Exit(m.Run())
}
