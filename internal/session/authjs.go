package session

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

func init() {
	caddy.RegisterModule(new(AuthJS))
}

// AuthJS stands for the sessions of NextAuth and Auth.js, and for any JWT, in the
// list of formats. Its options are the handler's own.
type AuthJS struct{}

// CaddyModule returns the Caddy module information.
func (*AuthJS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: formats.Namespace + ".authjs", New: func() caddy.Module { return new(AuthJS) }}
}

// UnmarshalCaddyfile parses nothing: there are no options.
func (*AuthJS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return directive.Block(d, "format authjs", nil)
}
