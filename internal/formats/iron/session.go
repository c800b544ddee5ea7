package iron

import (
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/cookie"
)

func init() {
	caddy.RegisterModule(new(Session))
}

// Session reads the sessions of iron-session 8 and 9, and other Fe26.2 seals of what
// an app likes, such as those of WorkOS AuthKit.
//
// The secrets are SECRET_COOKIE_PASSWORD, IRON_SESSION_PASSWORD, SESSION_PASSWORD and
// SESSION_SECRET of the environment, those that have 32 characters or more. The library
// has no default name of a cookie: without a name, a session is any seal, whole or in
// chunks. The user id is at userId, user.id or user.userId.
type Session struct {
	cookie.Options
}

// CaddyModule returns the Caddy module information.
func (*Session) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: formats.Namespace + ".iron_session", New: func() caddy.Module { return new(Session) }}
}

// UnmarshalCaddyfile sets the module up from Caddyfile tokens. Syntax:
//
//	format iron_session {
//		secret  <password...>
//		cookie  <name...>
//		subject <path>
//	}
func (m *Session) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return directive.Block(d, "format iron_session", m.Caddyfile())
}

// OpenFormat implements formats.Module.
func (m *Session) OpenFormat(env formats.Environment) (formats.Format, error) {
	passwords, err := m.Keys(env, IsLongEnough, "SECRET_COOKIE_PASSWORD", "IRON_SESSION_PASSWORD", "SESSION_PASSWORD", "SESSION_SECRET")
	if err != nil {
		return nil, err
	}
	opener, err := New(passwords, false)
	if err != nil {
		return nil, err
	}
	names, err := m.Names(env)
	return &ironSession{m.Options, opener, names}, err
}

type ironSession struct {
	cookie.Options

	opener *Opener
	names  []string // of the cookies; none for all that begin like a seal
}

// ironChunks are the chunks of iron-session 9.
var ironChunks = cookie.Chunks{Separator: ".", Count: 4}

// ofOthers are the cookies of libraries with a format or keys of their own.
var ofOthers = []string{"nuxt-session", "h3", "wos-session"}

// Owns implements formats.Format.
func (f *ironSession) Owns(name, value string) bool {
	if len(f.names) == 0 {
		base := baseOf(name)
		return (base != name || formats.Begins(value, prefix+"*")) && !slices.Contains(ofOthers, base)
	}
	return ironChunks.IsNamed(name, f.names)
}

// baseOf returns the name of a cookie without the number of a chunk. Version 9 reads
// chunks, whether it writes any or not, and anybody can split a seal.
func baseOf(name string) string {
	if at := len(name) - 2; at > 0 && name[at] == '.' && '0' <= name[at+1] && name[at+1] < '4' {
		return name[:at]
	}
	return name
}

// Headers implements formats.Format.
func (*ironSession) Headers() []string { return nil }

// Readings implements formats.Format.
func (f *ironSession) Readings(parts []formats.Part) (all []formats.Reading) {
	names := f.names
	if len(names) == 0 {
		names = namesOf(parts)
	}
	for _, name := range names {
		all = append(all, ironChunks.Readings(parts, name)...)
	}
	return seals(all)
}

// namesOf returns the names of cookies, whole or in chunks, each once.
func namesOf(parts []formats.Part) (names []string) {
	for _, p := range parts {
		for _, name := range []string{p.Name, baseOf(p.Name)} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// seals returns the readings that have the form of a seal.
func seals(all []formats.Reading) []formats.Reading {
	return slices.DeleteFunc(all, func(r formats.Reading) bool { return !IsSeal(r.Text) })
}

// Decode implements formats.Format.
func (f *ironSession) Decode(text string, now time.Time) (formats.Session, error) {
	claims, expires, err := f.opener.Open(text)
	if err != nil || isH3(claims) {
		return formats.Session{}, formats.ErrInvalid
	}
	return f.Session(claims, Canonical(text), expires, now, "userId", "user.id", "user.userId")
}

// isH3 reports whether a seal is one of h3, in which the user is elsewhere.
func isH3(claims map[string]any) bool {
	_, hasData := claims["data"].(map[string]any)
	return hasData && claims["id"] != nil && claims["createdAt"] != nil
}
