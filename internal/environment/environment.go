// Package environment reads the environment variables of a standard Auth.js app,
// and replaces the placeholders of a configuration.
package environment

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/location"
)

// defaultAuthPath is the base path of the auth routes of NextAuth v4 and of
// Auth.js v5 in Next.js.
const defaultAuthPath = "/api/auth"

// Environment replaces placeholders such as {env.DATABASE_URL} and
// {file./run/secrets/dsn}.
type Environment struct {
	replacer *caddy.Replacer
}

// New returns the environment of this process.
func New() Environment {
	return Environment{caddy.NewReplacer()}
}

// errBraces does not quote what is in braces: it may be part of a password.
var errBraces = errors.New("unrecognized placeholder: write a brace that begins none as \\{, or the whole value as {env.NAME} or {file.PATH}")

// placeholder is one that may be quoted.
var placeholder = regexp.MustCompile(`\{(env|file|system|time)\.[^{}]*\}`)

// Fill replaces the placeholders in the value of an option. An unknown or empty
// placeholder is an error, which names the option and the placeholder, never a
// value.
func (e Environment) Fill(option, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	filled, err := e.replacer.ReplaceOrErr(text, true, true)
	if err != nil {
		if !placeholder.MatchString(err.Error()) {
			err = errBraces
		}
		return "", fmt.Errorf("%s: %w", option, err)
	}
	return filled, nil
}

// FillAll is Fill for each of several values, none of which may be empty.
func (e Environment) FillAll(option string, texts []string) ([]string, error) {
	filled := make([]string, 0, len(texts))
	for _, text := range texts {
		f, err := e.Fill(option, text)
		if err != nil {
			return nil, err
		}
		if f == "" {
			return nil, fmt.Errorf("%s: empty value", option)
		}
		filled = append(filled, f)
	}
	return filled, nil
}

// Optional replaces the placeholders in a text, unknown ones by nothing, and trims
// spaces.
func (e Environment) Optional(text string) string {
	return strings.TrimSpace(e.replacer.ReplaceAll(text, ""))
}

// ErrNoSecret is the error of Secrets.
var ErrNoSecret = errors.New("no secret to read session cookies with: set AUTH_SECRET or NEXTAUTH_SECRET in Caddy's environment to the app's secret, or add `secret`, `key_file` or `jwks`; for another library than NextAuth and Auth.js, see docs/formats.md")

// Secrets returns the app's secrets: of AUTH_SECRET (Auth.js v5) and
// NEXTAUTH_SECRET (NextAuth v4) those that are set. It is ErrNoSecret if none is.
func (e Environment) Secrets() ([]string, error) {
	var secrets []string
	for _, name := range []string{"{env.AUTH_SECRET}", "{env.NEXTAUTH_SECRET}"} {
		if secret := e.replacer.ReplaceAll(name, ""); secret != "" {
			secrets = append(secrets, secret)
		}
	}
	if len(secrets) == 0 {
		return nil, ErrNoSecret
	}
	return secrets, nil
}

// AuthPath returns the base path of the app's auth routes: the path of AUTH_URL
// (Auth.js v5), else of NEXTAUTH_URL (NextAuth v4) or BETTER_AUTH_URL. If that has
// none, it is /api/auth, as in next-auth 4.24 and 5.0, and Better Auth.
func (e Environment) AuthPath() string {
	if u := e.authURL(); u != nil {
		if path := strings.TrimRight(u.Path, "/"); path != "" {
			return path
		}
	}
	return defaultAuthPath
}

// Origin returns the scheme and host of AUTH_URL, else of NEXTAUTH_URL or
// BETTER_AUTH_URL, such as https://app.example; empty if none is set.
func (e Environment) Origin() string {
	if u := e.authURL(); u != nil && u.Host != "" {
		return u.Scheme + "://" + u.Host
	}
	return ""
}

// authURL returns AUTH_URL, else NEXTAUTH_URL, else BETTER_AUTH_URL; nil if it is no
// URL.
func (e Environment) authURL() *url.URL {
	text := cmp.Or(e.Optional("{env.AUTH_URL}"), e.Optional("{env.NEXTAUTH_URL}"), e.Optional("{env.BETTER_AUTH_URL}"))
	if text == "" {
		return nil
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || location.Torn(text) {
		return nil
	}
	return u
}

// Later returns a function that replaces the placeholders in the value of an
// option at each call: a file may have changed since.
func Later(name, value string) func() (string, error) {
	return func() (string, error) { return New().Fill(name, value) }
}
