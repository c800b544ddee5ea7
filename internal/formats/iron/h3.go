package iron

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/cookie"
)

func init() {
	caddy.RegisterModule(new(H3))
}

// H3 reads the sessions of h3 and of nuxt-auth-utils, which the app looks for in the
// header X-NAME-Session before it looks for the cookie.
//
// The secret is NUXT_SESSION_PASSWORD of the environment. The cookies are nuxt-session
// and h3. The user id is at data.user.id or data.userId; the id at the top is the
// session's.
type H3 struct {
	cookie.Options

	// Also read the sessions of h3 2, which derives its keys so slowly that each
	// forged session costs 4 milliseconds a secret. Nuxt 4 has h3 1. Default: false.
	Version2 bool `json:"version_2,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*H3) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: formats.Namespace + ".h3", New: func() caddy.Module { return new(H3) }}
}

// UnmarshalCaddyfile sets the module up from Caddyfile tokens. Syntax:
//
//	format h3 {
//		secret  <password...>
//		cookie  <name...>
//		subject <path>
//		version_2
//	}
func (m *H3) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	options := m.Caddyfile()
	options["version_2"] = directive.Flag(&m.Version2)
	return directive.Block(d, "format h3", options)
}

// OpenFormat implements formats.Module.
func (m *H3) OpenFormat(env formats.Environment) (formats.Format, error) {
	passwords, err := m.Keys(env, IsLongEnough, "NUXT_SESSION_PASSWORD")
	if err != nil {
		return nil, err
	}
	opener, err := New(passwords, m.Version2)
	if err != nil {
		return nil, err
	}
	names, err := m.Names(env, "nuxt-session", "h3")
	f := &h3{Options: m.Options, opener: opener, names: names}
	for _, name := range names {
		f.headers = append(f.headers, http.CanonicalHeaderKey("x-"+name+"-session"))
	}
	return f, err
}

type h3 struct {
	cookie.Options

	opener         *Opener
	names, headers []string
}

// announced is how a cookie begins that says how many chunks there are.
const announced = "__chunked__"

// maxChunksH3 is how many chunks h3 2 reads.
const maxChunksH3 = 100

// Owns implements formats.Format.
func (f *h3) Owns(name, _ string) bool { return cookie.Chunks{Separator: "."}.IsNamed(name, f.names) }

// Headers implements formats.Format.
func (f *h3) Headers() []string { return f.headers }

// Readings implements formats.Format.
func (f *h3) Readings(parts []formats.Part) (all []formats.Reading) {
	for i, p := range parts {
		if slices.Contains(f.headers, p.Header) {
			all = append(all, formats.Reading{Text: p.Value, Parts: []int{i}})
		}
	}
	for _, name := range f.names {
		for _, whole := range formats.Values(parts, name) {
			if count, ok := strings.CutPrefix(whole.Text, announced); ok {
				all = append(all, chunked(parts, name, count, whole)...)
			} else {
				all = append(all, whole)
			}
		}
	}
	return seals(all)
}

// chunked returns what as many chunks say together as a cookie announces.
func chunked(parts []formats.Part, name, announcement string, announcing formats.Reading) []formats.Reading {
	count := parseInt(announcement)
	if count < 1 || count > maxChunksH3 {
		return nil
	}
	all := cookie.Chunks{Separator: ".", First: 1, Count: count}.Joined(parts, name)
	for i := range all {
		all[i].Parts = append(all[i].Parts, announcing.Parts...)
	}
	return all
}

// parseInt parses a number as the function of that name in ECMAScript does: behind
// blanks and a sign, and before anything else. It is 0 if there is none.
func parseInt(text string) int {
	text = strings.TrimPrefix(strings.TrimLeftFunc(text, func(c rune) bool { return unicode.IsSpace(c) || c == '\ufeff' }), "+")
	base, digits := 10, "0123456789"
	if hex, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		base, digits, text = 16, "0123456789abcdef", hex
	}
	if end := strings.IndexFunc(text, func(c rune) bool { return !strings.ContainsRune(digits, c) }); end >= 0 {
		text = text[:end]
	}
	number, err := strconv.ParseUint(text, base, 16)
	if err != nil {
		return 0
	}
	return int(number)
}

// Decode implements formats.Format.
func (f *h3) Decode(text string, now time.Time) (formats.Session, error) {
	claims, expires, err := f.opener.Open(text)
	if err != nil {
		return formats.Session{}, formats.ErrInvalid
	}
	return f.Session(claims, Canonical(text), expires, now, "data.user.id", "data.userId")
}
