package session

import (
	"crypto"
	"fmt"
	"os"
	"reflect"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// TokenOptions say how the session tokens of an app are found and read.
type TokenOptions struct {
	// The secrets that an app with NextAuth, Auth.js or JWTs makes its session
	// cookies with; more than one while a secret is being rotated. Use
	// placeholders. Default: {env.AUTH_SECRET} and {env.NEXTAUTH_SECRET}, those
	// that are set, unless there is a key file or a JWKS.
	Secrets []string `json:"secrets,omitempty"`

	// A PEM file of public keys or certificates, for tokens signed with RS, PS,
	// ES 256 to 512 or EdDSA.
	KeyFile string `json:"key_file,omitempty"`

	// The file or URL of a JSON Web Key Set (RFC 7517), for the same
	// algorithms. A URL is fetched in the background, and again as its keys
	// change.
	JWKS string `json:"jwks,omitempty"`

	// The `iss` claim that tokens must have. Default: not checked.
	Issuer string `json:"issuer,omitempty"`

	// The `aud` claim that tokens must have or contain. Default: not checked.
	Audience string `json:"audience,omitempty"`

	// The names of the session cookies, without the numbers of chunks.
	// Default: those of NextAuth v4 and Auth.js v5, plain and with the
	// prefixes __Secure- and __Host-.
	Cookies []string `json:"cookies,omitempty"`

	// The claim that holds the user id, as a path such as `user.id`. It may be
	// a string or an integer. Default: sub.
	Subject string `json:"subject,omitempty"`

	// The claim that holds the time of sign-in, as seconds or milliseconds since
	// 1970, or as RFC 3339. Auth.js renews `iat` at every session poll; a claim
	// that the app sets once, at sign-in, makes `created_at` and `valid_after`
	// stricter. Default: iat.
	IssuedAt string `json:"issued_at,omitempty"`
}

// Options returns the options of the Caddyfile.
func (o *TokenOptions) Options() directive.Options {
	return directive.Options{
		"secret":    directive.Texts(&o.Secrets),
		"key_file":  directive.Text(&o.KeyFile),
		"jwks":      directive.Text(&o.JWKS),
		"issuer":    directive.Text(&o.Issuer),
		"audience":  directive.Text(&o.Audience),
		"cookie":    directive.Texts(&o.Cookies),
		"subject":   directive.Text(&o.Subject),
		"issued_at": directive.Text(&o.IssuedAt),
	}
}

// AreSet reports whether any option is.
func (o *TokenOptions) AreSet() bool { return !reflect.ValueOf(*o).IsZero() }

// CookieNames returns the names of the session cookies, with their
// placeholders filled, or DefaultCookieNames.
func (o *TokenOptions) CookieNames(env environment.Environment) ([]string, error) {
	names, err := env.FillAll("cookies", o.Cookies)
	if err == nil && len(names) == 0 {
		names = DefaultCookieNames
	}
	return names, err
}

// Config returns the configuration of a Reader, with placeholders filled and
// the key file read. It opens the key set, if there is one, with openKeySet.
// The caller sets Match and CacheBytes.
func (o *TokenOptions) Config(env environment.Environment, openKeySet func(location string) (*jose.JWKS, error)) (Config, error) {
	config := Config{Subject: o.Subject, IssuedAt: o.IssuedAt}
	var err error
	if config.CookieNames, err = o.CookieNames(env); err != nil {
		return config, err
	}
	if config.Secrets, err = env.FillAll("secrets", o.Secrets); err != nil {
		return config, err
	}
	if len(config.Secrets) == 0 && o.KeyFile == "" && o.JWKS == "" {
		if config.Secrets, err = env.Secrets(); err != nil {
			return config, err
		}
	}
	if config.Issuer, err = env.Fill("issuer", o.Issuer); err != nil {
		return config, err
	}
	if config.Audience, err = env.Fill("audience", o.Audience); err != nil {
		return config, err
	}
	if o.KeyFile != "" {
		path, err := env.Fill("key_file", o.KeyFile)
		if err != nil {
			return config, err
		}
		if config.PublicKeys, err = readKeys(path); err != nil {
			return config, fmt.Errorf("key_file: %w", err)
		}
	}
	if o.JWKS != "" {
		location, err := env.Fill("jwks", o.JWKS)
		if err != nil {
			return config, err
		}
		if config.JWKS, err = openKeySet(location); err != nil {
			return config, err
		}
	}
	return config, nil
}

func readKeys(path string) ([]crypto.PublicKey, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return jose.ParsePublicKeys(file)
}
