package admin

import (
	"context"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

func init() {
	caddy.RegisterModule(new(Dashboard))
	httpcaddyfile.RegisterHandlerDirective("stale_session_dashboard", parseDashboard)
	// After basic_auth and the like, before handlers that respond.
	httpcaddyfile.RegisterDirectiveOrder("stale_session_dashboard", httpcaddyfile.Before, "respond")
}

// Dashboard serves a dashboard of all stale_session handlers of this Caddy: the
// sessions they detect, the state of their databases, and the verdict on the
// sessions of a user, with the reason.
//
// It shows user ids and IP addresses of clients, and does not authenticate
// anyone: put it behind the authentication of the site. It answers every request
// that reaches it, so give it a path of its own that ends with `/*`.
//
// The same dashboard, with actions, is at /stale_session/ on Caddy's admin
// endpoint.
type Dashboard struct {
	// Allows users of the dashboard to flush the cache of accounts, to revoke the
	// sessions of a user, and to undo that (restore). Requests from other sites
	// are rejected. Default: false, the dashboard is read-only.
	Actions bool `json:"actions,omitempty"`

	panel Panel
}

// CaddyModule returns the Caddy module information.
func (*Dashboard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.stale_session_dashboard",
		New: func() caddy.Module { return new(Dashboard) },
	}
}

// Provision sets the dashboard up.
func (d *Dashboard) Provision(ctx caddy.Context) error {
	// A server that shuts down waits for its requests, so its streams must end.
	running, end := context.WithCancel(ctx)
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnShutdown(end)
	} else {
		context.AfterFunc(ctx, end)
	}
	d.panel = Panel{Actions: d.Actions, Done: running.Done()}
	return nil
}

// ServeHTTP serves the dashboard.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	return d.panel.ServeHTTP(w, r)
}

func parseDashboard(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	d := new(Dashboard)
	return d, d.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets the dashboard up from Caddyfile tokens. Syntax:
//
//	stale_session_dashboard [<matcher>] {
//		actions
//	}
func (d *Dashboard) UnmarshalCaddyfile(c *caddyfile.Dispenser) error {
	c.Next()
	return directive.Block(c, "stale_session_dashboard", directive.Options{"actions": directive.Flag(&d.Actions)})
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Dashboard)(nil)
	_ caddyhttp.MiddlewareHandler = (*Dashboard)(nil)
	_ caddyfile.Unmarshaler       = (*Dashboard)(nil)
)
