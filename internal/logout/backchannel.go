// Package logout ends sessions that an OpenID provider ends (OpenID Connect
// Back-Channel Logout 1.0).
package logout

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/signals"
)

// Backchannel lets an OpenID provider end sessions, by OpenID Connect
// Back-Channel Logout 1.0: those of the user whose account at the provider a logout
// token names by its `sub`, or the one with its `sid`, which an Auth.js app puts into
// the session in its jwt callback.
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

	// The algorithms that logout tokens may be signed with: what the app is registered
	// with at the provider as `id_token_signed_response_alg`, such as ES256 or EdDSA.
	// Default: RS256, as in OpenID Connect.
	Algorithms []string `json:"algorithms,omitempty"`

	identities.Accounts

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
	options := b.Options()
	maps.Copy(options, directive.Options{
		"path":       directive.Text(&b.Path),
		"issuer":     directive.Text(&b.Issuer),
		"audience":   directive.Text(&b.Audience),
		"jwks":       directive.Text(&b.JWKS),
		"algorithms": directive.Texts(&b.Algorithms),
		"ends":       directive.Text(&b.Ends),
	})
	return directive.Block(d, "backchannel_logout", options)
}

// Defaults are the options of the session tokens, with their placeholders, and the
// base path of the auth routes. They apply where Backchannel sets none.
type Defaults struct {
	Issuer, Audience, JWKS, AuthPath string
	// IssuedAt reports whether sessions say when their user signed in. Else they say
	// when they were renewed last.
	IssuedAt bool
}

// defaultAlgorithm is the one of OpenID Connect (Dynamic Client Registration 1.0,
// id_token_signed_response_alg).
const defaultAlgorithm = "RS256"

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
	if err := errors.Join(directive.OneOf("ends", b.Ends, endsSession, endsUser), b.Validate()); err != nil {
		return nil, err
	}
	if b.Ends == endsUser && !b.Known() {
		return nil, errors.New("`ends user` needs `provider`, or `sub_is_user_id`")
	}
	algorithms := b.Algorithms
	if len(algorithms) == 0 {
		algorithms = []string{defaultAlgorithm}
	}
	for _, name := range algorithms {
		if !jose.IsPublicKeyAlgorithm(name) {
			return nil, fmt.Errorf("algorithms has %q; it must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA", name)
		}
	}
	e := &Endpoint{
		Path: cmp.Or(b.Path, cmp.Or(defaults.AuthPath, env.AuthPath())+"/backchannel-logout"), endsUser: b.Ends == endsUser,
		accounts: b.Accounts, algorithms: algorithms, lasting: defaults.IssuedAt, now: time.Now, bodyTimeout: signals.BodyTimeout, used: make(map[string]time.Time),
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
	e.verifier, err = jose.NewVerifier(jose.VerifierConfig{Type: jose.TypeLogout, JWKS: keys, Algorithms: algorithms, Patient: true})
	return e, err
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Backchannel)(nil)
