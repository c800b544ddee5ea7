package remix

import (
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/cookie"
)

func init() {
	caddy.RegisterModule(new(Remix))
}

// Remix reads the sessions of createCookieSessionStorage of Remix 2 and React Router 7.
//
// The secret is SESSION_SECRET of the environment; if there are commas in it, it may also
// be several. The cookie is __session. The user id is at userId, user.id or user.
type Remix struct {
	cookie.Options
}

// CaddyModule returns the Caddy module information.
func (*Remix) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: formats.Namespace + ".remix", New: func() caddy.Module { return new(Remix) }}
}

// UnmarshalCaddyfile sets the module up from Caddyfile tokens. Syntax:
//
//	format remix {
//		secret  <secret...>
//		cookie  <name...>
//		subject <path>
//	}
func (m *Remix) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return directive.Block(d, "format remix", m.Caddyfile())
}

// OpenFormat implements formats.Module.
func (m *Remix) OpenFormat(env formats.Environment) (formats.Format, error) {
	secrets, err := m.Keys(env, func(string) bool { return true }, "SESSION_SECRET")
	if err != nil {
		return nil, err
	}
	if len(m.Secrets) == 0 && strings.Contains(secrets[0], ",") {
		secrets = append(secrets, slices.DeleteFunc(strings.Split(secrets[0], ","), func(s string) bool { return s == "" })...)
	}
	verifier, err := New(secrets)
	if err != nil {
		return nil, err
	}
	names, err := m.Names(env, "__session")
	return &format{m.Options, verifier, names}, err
}

type format struct {
	cookie.Options

	verifier *Verifier
	names    []string
}

// Owns implements formats.Format.
func (f *format) Owns(name, _ string) bool { return slices.Contains(f.names, name) }

// Headers implements formats.Format.
func (*format) Headers() []string { return nil }

// Readings implements formats.Format. Cookies of the same name that have another form
// are those of Auth0, Clerk and Firebase.
func (f *format) Readings(parts []formats.Part) (all []formats.Reading) {
	for _, name := range f.names {
		all = append(all, formats.Values(parts, name)...)
	}
	return slices.DeleteFunc(all, func(r formats.Reading) bool { return !IsSession(r.Text) })
}

// Decode implements formats.Format.
func (f *format) Decode(text string, now time.Time) (formats.Session, error) {
	claims, err := f.verifier.Verify(text)
	if err != nil {
		return formats.Session{}, formats.ErrInvalid
	}
	return f.Session(claims, canonical(text), time.Time{}, now, "userId", "user.id", "user")
}
