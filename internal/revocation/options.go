package revocation

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

// Revocations says where sessions that an operator or an identity provider has
// revoked are kept.
type Revocations struct {
	// The address of a Redis or Valkey that all nodes share, like `url` of
	// `directory redis`. While it is unavailable, known revocations stay in effect;
	// pending revocations are replayed on recovery. It should not evict keys.
	// Default: none.
	Redis string `json:"redis,omitempty"`
	// The name under which nodes share revocations. Nodes of one app need the same
	// name, apps that share a Redis different ones. Default: the name of the users'
	// database, as `caddy stale-session status` shows it, and, in Postgres, what
	// identifies the users whatever the address is.
	Name string `json:"name,omitempty"`
	// How long a revocation counts. It must not be shorter than the longest session.
	// Default: 400 days, for which browsers keep a cookie at most.
	Life caddy.Duration `json:"life,omitempty"`
}

// UnmarshalCaddyfile parses the block of `revocations`.
func (r *Revocations) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return directive.Block(d, "revocations", directive.Options{
		"redis": directive.Text(&r.Redis),
		"name":  directive.Text(&r.Name),
		"life":  directive.Duration(&r.Life),
	})
}
