package admin

import (
	"net/http"
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// Flushed is the response to flush.
type Flushed struct {
	// Accounts is how many accounts were removed from the cache.
	Accounts int64 `json:"accounts"`
	// SignIn are the sign-in pages of the handlers, each once: paths on their
	// sites, or URLs.
	SignIn []string `json:"sign_in"`
}

func (*Panel) flush(w http.ResponseWriter, _ *http.Request) error {
	flushed := Flushed{SignIn: []string{}}
	for _, d := range openDirectories() {
		flushed.Accounts += d.Flush()
	}
	for _, h := range handlers() {
		if h.SignIn != nil {
			flushed.SignIn = append(flushed.SignIn, h.SignIn())
		}
	}
	slices.Sort(flushed.SignIn)
	flushed.SignIn = slices.Compact(flushed.SignIn)
	telemetry.Publish("flushed", map[string]any{"accounts": flushed.Accounts})
	return writeJSON(w, http.StatusOK, flushed)
}
