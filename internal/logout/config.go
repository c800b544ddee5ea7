package logout

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

// BackchannelConfig ends sessions that an OpenID provider has ended (OpenID
// Connect Back-Channel Logout 1.0). The session must have the provider's sub as
// its subject, or its sid as the claim `sid`, which an Auth.js app puts there in
// its jwt callback.
type BackchannelConfig struct {
	// The path that the provider POSTs to. Default: `backchannel-logout` below
	// the auth routes, usually /api/auth/backchannel-logout.
	Path string `json:"path,omitempty"`
	// The provider: the `iss` claim of its logout tokens.
	Issuer string `json:"issuer,omitempty"`
	// The app's client id: in the `aud` claim.
	Audience string `json:"audience,omitempty"`
	// The URL or file of the provider's JSON Web Key Set. Default: the handler's
	// JWKS.
	JWKS string `json:"jwks,omitempty"`
	// What a logout token ends that names a session: that `session`, or all
	// sessions of the `user`. Default: session.
	Ends string `json:"ends,omitempty"`
}

// What BackchannelConfig.Ends can be.
const (
	EndsSession = "session"
	EndsUser    = "user"
)

// UnmarshalCaddyfile takes the block of `backchannel_logout`, whose name was read.
func (b *BackchannelConfig) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return directive.Block(d, "backchannel_logout", directive.Options{
		"path":     directive.Text(&b.Path),
		"issuer":   directive.Text(&b.Issuer),
		"audience": directive.Text(&b.Audience),
		"jwks":     directive.Text(&b.JWKS),
		"ends":     directive.Text(&b.Ends),
	})
}
