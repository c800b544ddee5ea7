package revocation

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

// Revocations says where sessions that were ended by hand, or by an identity
// provider, are kept.
type Revocations struct {
	// The address of a Redis or Valkey that all nodes share, as the `url` of
	// `directory redis`. While it is away, what is known holds, and what it could
	// not be told it is told when it is back. It should not evict keys. Default:
	// none.
	Redis string `json:"redis,omitempty"`
	// What the nodes that share revocations agree on, when a Redis is that of
	// several apps. Default: the name of the users' database, as `caddy
	// stale-session status` shows it.
	Name string `json:"name,omitempty"`
	// How long a revocation is kept: as long as the longest session lasts.
	// Default: 400 days, which is the longest that browsers keep a cookie.
	Life caddy.Duration `json:"life,omitempty"`
}

// UnmarshalCaddyfile takes the block of `revocations`, whose name was read.
func (r *Revocations) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return directive.Block(d, "revocations", directive.Options{
		"redis": directive.Text(&r.Redis),
		"name":  directive.Text(&r.Name),
		"life":  directive.Duration(&r.Life),
	})
}
