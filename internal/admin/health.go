package admin

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

func init() {
	caddy.RegisterModule(new(Health))
	httpcaddyfile.RegisterHandlerDirective("stale_session_health", parseHealth)
	// A probe has no password and no session.
	httpcaddyfile.RegisterDirectiveOrder("stale_session_health", httpcaddyfile.Before, "basic_auth")
}

// Health answers the probes of load balancers and Kubernetes: 200 to send requests
// to this Caddy, 503 to send them elsewhere. It answers from memory, and shows
// nothing but that.
//
// By default, 503 only means that Caddy is shutting down (`shutdown_delay`). A
// database that is away is no reason: every Caddy lacks it, and sessions pass
// unchecked meanwhile.
type Health struct {
	// Answer 503 also while users cannot be looked up for any handler, and after a
	// start until they could. Then the site is down while the database is: for a
	// deployment that must not go on, or an alert. Default: false.
	RequireChecks bool `json:"require_checks,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.stale_session_health",
		New: func() caddy.Module { return new(Health) },
	}
}

// ServeHTTP answers a probe.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	status, text := http.StatusOK, "ok\n"
	switch {
	case stopping(r):
		status, text = http.StatusServiceUnavailable, "stopping\n"
	case h.RequireChecks && !checking():
		status, text = http.StatusServiceUnavailable, "not checking\n"
	}
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = io.WriteString(w, text) // an error means that the client is gone
	}
	return nil
}

// stopping reports whether Caddy is about to shut down.
func stopping(r *http.Request) bool {
	replacer, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	stops, _ := replacer.Get("http.shutting_down")
	return stops == true
}

// checking reports whether users can be looked up for all handlers.
func checking() bool {
	all := true
	for _, users := range openDirectories() {
		all = users.Answers() && all // asks each one
	}
	return all
}

func parseHealth(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	health := new(Health)
	return health, health.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets the probe up from Caddyfile tokens. Syntax:
//
//	stale_session_health [<matcher>] {
//		require_checks
//	}
func (h *Health) UnmarshalCaddyfile(c *caddyfile.Dispenser) error {
	c.Next()
	return directive.Block(c, "stale_session_health", directive.Options{"require_checks": directive.Flag(&h.RequireChecks)})
}

// Interface guards
var (
	_ caddyhttp.MiddlewareHandler = (*Health)(nil)
	_ caddyfile.Unmarshaler       = (*Health)(nil)
)
