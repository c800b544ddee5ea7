package signals

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// Options are the options of an endpoint: *Backchannel, *TokenRevocation or
// *SharedSignals.
type Options interface {
	caddyfile.Unmarshaler
	// Providers are what the app calls the issuer in its table of linked accounts.
	Providers() []string

	kind() Kind
	open(env environment.Environment, defaults Defaults, keys Keys) (Endpoint, error)
}

// Open returns the endpoint that options describe, or an error that names the wrong one.
func Open(options Options, env environment.Environment, defaults Defaults, keys Keys) (Endpoint, error) {
	e, err := options.open(env, defaults, keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", options.kind(), err)
	}
	return e, nil
}

// Source has the options that all endpoints have: where signals come in, and from whom.
type Source struct {
	// The path that signals are POSTed to. Default: `backchannel-logout`,
	// `global-token-revocation` or `shared-signals` below the auth routes, such as
	// /api/auth/backchannel-logout.
	Path string `json:"path,omitempty"`

	// The identity provider or transmitter: the `iss` claim of its tokens, exactly as its
	// metadata have it. Default: the handler's Issuer; none for global_token_revocation.
	Issuer string `json:"issuer,omitempty"`

	// The URL or file of the issuer's JSON Web Key Set. Default: for backchannel_logout
	// the handler's JWKS; for shared_signals what the issuer's metadata name, at
	// /.well-known/ssf-configuration; for global_token_revocation none, so that only the
	// secret counts.
	JWKS string `json:"jwks,omitempty"`

	// The algorithms that the issuer's tokens may be signed with, such as ES256 or EdDSA.
	// Logout tokens are signed with what the app is registered with at the provider as
	// `id_token_signed_response_alg`. Default: RS256, as in OpenID Connect and the CAEP
	// Interoperability Profile 1.0.
	Algorithms []string `json:"algorithms,omitempty"`

	identities.Accounts
}

// Providers implements Options.
func (s *Source) Providers() []string { return s.Provider }

// unmarshal parses the block of an endpoint, which has options of its own besides.
func (s *Source) unmarshal(d *caddyfile.Dispenser, kind Kind, own directive.Options) error {
	options := s.Options()
	maps.Copy(options, directive.Options{
		"path":       directive.Text(&s.Path),
		"issuer":     directive.Text(&s.Issuer),
		"jwks":       directive.Text(&s.JWKS),
		"algorithms": directive.Texts(&s.Algorithms),
	})
	maps.Copy(options, own)
	return directive.Block(d, string(kind), options)
}

// Defaults are options of the handler that apply where an endpoint sets none.
type Defaults struct {
	Issuer, Audience, JWKS string
	// Origin is the address of the site, such as https://app.example; empty if that is
	// not known.
	Origin string
	// AuthPath is the base path of the auth routes.
	AuthPath string
	// IssuedAt reports whether sessions say when their user signed in. Else they say
	// when they were renewed last.
	IssuedAt bool
	// NoUsers reports whether users can be found neither by their accounts nor by their
	// addresses.
	NoUsers bool
}

// Keys opens key sets.
type Keys interface {
	// KeySet opens the JSON Web Key Set at a URL or in a file.
	KeySet(location string) (*jose.JWKS, error)
	// DiscoverKeySet opens the one that the metadata of an issuer name.
	DiscoverKeySet(metadata, issuer string) (*jose.JWKS, error)
}

// endpoint is what all endpoints have.
type endpoint struct {
	kind        Kind
	path        string
	tokens      *tokens
	accounts    identities.Accounts
	domains     identities.Domains // of addresses by which the issuer may name users
	lasting     bool               // sessions say when their user signed in
	now         func() time.Time
	bodyTimeout time.Duration
}

// Kind implements Endpoint.
func (e *endpoint) Kind() Kind { return e.kind }

// At implements Endpoint.
func (e *endpoint) At() string { return e.path }

// endpoint returns an endpoint without tokens.
func (s *Source) endpoint(kind Kind, domains identities.Domains, defaults Defaults) (endpoint, error) {
	e := endpoint{
		kind: kind, path: s.Path, accounts: s.Accounts, domains: domains,
		lasting: defaults.IssuedAt, now: time.Now, bodyTimeout: bodyTimeout,
	}
	switch {
	case e.path == "":
		e.path = defaults.AuthPath + "/" + strings.ReplaceAll(string(kind), "_", "-")
	case e.path[0] != '/':
		return e, fmt.Errorf("path is %q; it must begin with a slash", e.path)
	}
	if defaults.NoUsers && len(s.Provider)+len(domains) > 0 {
		return e, identities.ErrUnsupported
	}
	return e, s.Validate()
}

// minSecret is the shortest secret that clients may send, in bytes.
const minSecret = 32

// secret fills the placeholders of an option that holds a secret.
func secret(env environment.Environment, option, value string) (string, error) {
	filled, err := env.Fill(option, value)
	if err == nil && filled != "" && len(filled) < minSecret {
		err = fmt.Errorf("%s must have at least %d characters, such as the output of `openssl rand -hex 32`", option, minSecret)
	}
	return filled, err
}
