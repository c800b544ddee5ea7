// Package logout ends sessions that an OpenID provider ends (OpenID Connect
// Back-Channel Logout 1.0).
package logout

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// Backchannel lets an OpenID provider end sessions, by OpenID Connect
// Back-Channel Logout 1.0. The subject of a session must be the provider's
// `sub`, or its claim `sid` the provider's, which an Auth.js app sets in its jwt
// callback.
type Backchannel struct {
	// The path that the provider POSTs logout tokens to. Default:
	// `backchannel-logout` below the auth routes, usually
	// /api/auth/backchannel-logout.
	Path string `json:"path,omitempty"`

	// The provider: the `iss` claim of its logout tokens. Default: the handler's
	// Issuer.
	Issuer string `json:"issuer,omitempty"`

	// The app's client ID, which the `aud` claim must be or contain. Default: the
	// handler's Audience.
	Audience string `json:"audience,omitempty"`

	// The URL or file of the provider's JSON Web Key Set. Default: the handler's
	// JWKS.
	JWKS string `json:"jwks,omitempty"`

	// What a logout token with a `sid` ends: that `session`, or all sessions of
	// the `user`. Default: session.
	Ends string `json:"ends,omitempty"`
}

// The values of Backchannel.Ends.
const (
	endsSession = "session"
	endsUser    = "user"
)

// UnmarshalCaddyfile parses the block of `backchannel_logout`.
func (b *Backchannel) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return directive.Block(d, "backchannel_logout", directive.Options{
		"path":     directive.Text(&b.Path),
		"issuer":   directive.Text(&b.Issuer),
		"audience": directive.Text(&b.Audience),
		"jwks":     directive.Text(&b.JWKS),
		"ends":     directive.Text(&b.Ends),
	})
}

// Defaults are the options of the session tokens, with their placeholders, and the
// base path of the auth routes. They apply where Backchannel sets none.
type Defaults struct{ Issuer, Audience, JWKS, AuthPath string }

// Open returns the endpoint that the options describe, or an error that names
// the wrong option. keySet opens the JSON Web Key Set at a URL or in a file.
func (b *Backchannel) Open(env environment.Environment, defaults Defaults, keySet func(location string) (*jose.JWKS, error)) (*Endpoint, error) {
	e, err := b.open(env, defaults, keySet)
	if err != nil {
		return nil, fmt.Errorf("backchannel_logout: %w", err)
	}
	return e, nil
}

func (b *Backchannel) open(env environment.Environment, defaults Defaults, keySet func(string) (*jose.JWKS, error)) (*Endpoint, error) {
	if err := directive.OneOf("ends", b.Ends, endsSession, endsUser); err != nil {
		return nil, err
	}
	e := &Endpoint{
		Path: cmp.Or(b.Path, cmp.Or(defaults.AuthPath, env.AuthPath())+"/backchannel-logout"), endsUser: b.Ends == endsUser,
		now: time.Now, bodyTimeout: bodyTimeout, used: make(map[string]time.Time),
	}
	if e.Path[0] != '/' {
		return nil, fmt.Errorf("path is %q; it must begin with a slash", e.Path)
	}
	var err error
	if e.issuer, err = env.Fill("issuer", cmp.Or(b.Issuer, defaults.Issuer)); err != nil {
		return nil, err
	}
	if e.audience, err = env.Fill("audience", cmp.Or(b.Audience, defaults.Audience)); err != nil {
		return nil, err
	}
	location, err := env.Fill("jwks", cmp.Or(b.JWKS, defaults.JWKS))
	if err != nil {
		return nil, err
	}
	if e.issuer == "" || e.audience == "" || location == "" {
		return nil, errors.New("issuer, audience and jwks are required")
	}
	keys, err := keySet(location)
	if err != nil {
		return nil, err
	}
	e.verifier, err = jose.NewVerifier(jose.VerifierConfig{Type: jose.TypeLogout, JWKS: keys})
	return e, err
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Backchannel)(nil)
