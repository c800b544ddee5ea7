package admin

import (
	"net/http"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// Flushed is the response to flush.
type Flushed struct {
	// Accounts is how many accounts were removed from the cache.
	Accounts int64 `json:"accounts"`
}

func (*Panel) flush(w http.ResponseWriter, _ *http.Request) error {
	var flushed Flushed
	for _, d := range openDirectories() {
		flushed.Accounts += d.Flush()
	}
	telemetry.Publish("flushed", map[string]any{"accounts": flushed.Accounts})
	return writeJSON(w, http.StatusOK, flushed)
}
