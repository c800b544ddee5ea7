// Package betterauth reads the sessions of Better Auth 1.2 to 1.7, from the cookies
// of its cache.
package betterauth

import (
	"cmp"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

func init() {
	caddy.RegisterModule(new(Module))
}

// Module reads the sessions of Better Auth: the cookies `better-auth.session_token`
// and `better-auth.session_data`, and a signed token in `Authorization: Bearer`.
type Module struct {
	// The app's secret; with several, the first is the one in use. Use placeholders.
	// Default: as in the app, the first of {env.BETTER_AUTH_SECRETS},
	// {env.BETTER_AUTH_SECRET} and {env.AUTH_SECRET} that is set.
	Secrets []string `json:"secrets,omitempty"`

	// What the names of the cookies begin with: the option `cookiePrefix` of the app.
	// Default: better-auth.
	Prefix string `json:"prefix,omitempty"`

	// The names of the cookies session_token and session_data, in this order, if the
	// app names them by `advanced.cookies`. Without `__Secure-`. Default: the prefix,
	// a dot, and those names.
	Cookies []string `json:"cookies,omitempty"`

	// The file or URL of the app's JSON Web Key Set, if its plugin `jwt` signs the
	// cache (`sessionCookieCache`): usually /api/auth/jwks of the app. Default: none.
	JWKS string `json:"jwks,omitempty"`

	// The app's table of sessions, whose column `token` names them; `off` looks at none.
	// A session whose row was there and is gone has been signed out elsewhere. Only
	// with users in Postgres. Default: session.
	Sessions string `json:"sessions,omitempty"`

	// The address of the Redis that holds the app's sessions (`secondaryStorage`):
	// redis:// or rediss://, as in `directory redis`. Use a placeholder. Default: none.
	Redis string `json:"redis,omitempty"`

	// The key of a session in Redis, with {subject} in place of its token. Default:
	// better-auth:{subject}, as @better-auth/redis-storage writes it.
	RedisKey string `json:"redis_key,omitempty"`

	// The claim of session_data that holds the user id. Default: user.id.
	Subject string `json:"subject,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: formats.Namespace + ".better_auth", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile sets the module up from Caddyfile tokens. Syntax:
//
//	format better_auth {
//		secret    <secret...>
//		prefix    <prefix>
//		cookies   <session_token> <session_data>
//		jwks      <path or URL>
//		sessions  <table>|off
//		redis     <url>
//		redis_key <key with {subject}>
//		subject   <claim>
//	}
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return directive.Block(d, "format better_auth", directive.Options{
		"secret":    directive.Texts(&m.Secrets),
		"prefix":    directive.Text(&m.Prefix),
		"cookies":   directive.Texts(&m.Cookies),
		"jwks":      directive.Text(&m.JWKS),
		"sessions":  directive.Text(&m.Sessions),
		"redis":     directive.Text(&m.Redis),
		"redis_key": directive.Text(&m.RedisKey),
		"subject":   directive.Text(&m.Subject),
	})
}

// jwtType is the typ of a cache that the app's plugin jwt has signed.
const jwtType = "better-auth.session-cache+jwt"

// OpenFormat implements formats.Module.
func (m *Module) OpenFormat(environment formats.Environment) (formats.Format, error) {
	current, all, err := m.secrets(environment)
	if err != nil {
		return nil, err
	}
	f := &format{subject: cmp.Or(m.Subject, "user.id"), sessions: cmp.Or(m.Sessions, "session"), key: cmp.Or(m.RedisKey, "better-auth:{subject}")}
	if f.redis, err = environment.Fill("redis", m.Redis); err != nil {
		return nil, err
	}
	if f.redis == "" && m.RedisKey != "" || f.redis != "" && m.Sessions != "" {
		return nil, errors.New("`redis_key` needs `redis`, and `sessions` is for sessions that are not in Redis")
	}
	if f.names, err = m.names(environment); err != nil {
		return nil, err
	}
	for _, secret := range current {
		f.secrets = append(f.secrets, []byte(secret))
	}
	var keys [][]byte
	for _, secret := range all {
		key, err := hkdf.Key(sha256.New, []byte(secret), []byte("better-auth-session"), "BetterAuth.js Generated Encryption Key", 64)
		if err != nil {
			return nil, fmt.Errorf("deriving a key from the secret: %w", err)
		}
		keys = append(keys, key)
	}
	if f.decrypter, err = jose.NewKeyDecrypter(keys...); err != nil {
		return nil, err
	}
	keySet, err := environment.Fill("jwks", m.JWKS)
	if err != nil {
		return nil, err
	}
	f.verifier, err = environment.Verifier(formats.Keys{Secrets: current, JWKS: keySet, Type: jwtType})
	return f, err
}

// secrets returns the secrets that sign, and all that may have encrypted.
func (m *Module) secrets(environment formats.Environment) (current, all []string, err error) {
	for _, text := range m.Secrets {
		secret, err := environment.Fill("secret", text)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, secret)
	}
	if len(all) > 0 {
		return all, all, nil
	}
	for entry := range strings.SplitSeq(environment.Variable("BETTER_AUTH_SECRETS"), ",") { // 2:newer,1:older
		if _, secret, ok := strings.Cut(strings.TrimSpace(entry), ":"); ok && secret != "" {
			all = append(all, strings.TrimSpace(secret))
		}
	}
	for _, name := range []string{"BETTER_AUTH_SECRET", "AUTH_SECRET"} {
		if secret := environment.Variable(name); secret != "" {
			all = append(all, secret)
			break
		}
	}
	if len(all) == 0 {
		return nil, nil, fmt.Errorf("%w: set BETTER_AUTH_SECRET in Caddy's environment to the app's secret, or add `secret`", formats.ErrNoKey)
	}
	return all[:1], all, nil
}

// names returns the names of the cookies, with each prefix that they may have.
func (m *Module) names(environment formats.Environment) (all []names, err error) {
	prefix, err := environment.Fill("prefix", m.Prefix)
	if err != nil {
		return nil, err
	}
	prefix = cmp.Or(prefix, "better-auth")
	cookies := []string{prefix + ".session_token", prefix + ".session_data"}
	if len(m.Cookies) > 0 {
		if len(m.Cookies) != 2 || m.Prefix != "" {
			return nil, fmt.Errorf("cookies: give the two names of session_token and session_data, and no `prefix`")
		}
		for i, name := range m.Cookies {
			if cookies[i], err = environment.Fill("cookies", name); err != nil {
				return nil, err
			}
		}
	}
	for _, secure := range []string{"__Secure-", "", "__Host-"} {
		all = append(all, names{token: secure + cookies[0], data: secure + cookies[1]})
	}
	return all, nil
}

// Interface guards
var (
	_ formats.Module        = (*Module)(nil)
	_ caddyfile.Unmarshaler = (*Module)(nil)
)
