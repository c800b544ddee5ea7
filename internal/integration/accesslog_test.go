package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

func TestTheAccessLogHasTheVerdict(t *testing.T) {
	standardapp.NewDatabase(t)
	file := filepath.Join(t.TempDir(), "access")
	base := caddytest.Start(t, caddytest.Site("log {", "	output file "+file, "}", "stale_session", "respond ok"))
	for cookie, fields := range map[string]string{
		standardapp.TokenOf(t, "live", time.Hour):    `"stale_session":"live"`,
		standardapp.TokenOf(t, "deleted", time.Hour): `"stale_session":"stale","stale_session_reason":"user_not_found"`,
		"a=b": `"stale_session":"anonymous"`,
	} {
		_ = caddytest.Ask(t, base, cookie)
		eventually.Holds(t, "the access log has "+fields, func() bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(text), fields)
		})
	}
}
