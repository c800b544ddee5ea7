package auth0

import (
	"cmp"
	"fmt"
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
	caddy.RegisterModule(new(Auth0))
}

// Auth0 reads the sessions of @auth0/nextjs-auth0 4, and those of version 3 that it
// still reads.
//
// The secret is AUTH0_SECRET of the environment. The cookies are __session and, of
// version 3, appSession. Users are Auth0's, so that Subject must be configured, and the
// column of the users table that holds it: usually user.sub, which is auth0|… or
// google-oauth2|….
type Auth0 struct {
	cookie.Options
}

// CaddyModule returns the Caddy module information.
func (*Auth0) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: formats.Namespace + ".auth0", New: func() caddy.Module { return new(Auth0) }}
}

// UnmarshalCaddyfile sets the module up from Caddyfile tokens. Syntax:
//
//	format auth0 {
//		secret  <secret...>
//		cookie  <name...>
//		subject <path>
//	}
func (m *Auth0) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return directive.Block(d, "format auth0", m.Caddyfile())
}

// OpenFormat implements formats.Module.
func (m *Auth0) OpenFormat(env formats.Environment) (formats.Format, error) {
	if m.Subject == "" {
		return nil, fmt.Errorf("`subject` is missing, because the users are Auth0's: if your users table has a column with their ids, set `subject user.sub`, and `users { id COLUMN }`: %w", formats.ErrNoKey)
	}
	secrets, err := m.Keys(env, func(string) bool { return true }, "AUTH0_SECRET")
	if err != nil {
		return nil, err
	}
	decrypter, err := New(secrets)
	if err != nil {
		return nil, err
	}
	names, err := m.Names(env, "__session", "appSession")
	return &format{m.Options, decrypter, names}, err
}

type format struct {
	cookie.Options

	decrypter *Decrypter
	names     []string
}

// The chunks of version 4, and those of version 3.
var (
	chunks  = cookie.Chunks{Separator: "__", Count: 100}
	chunks3 = cookie.Chunks{Separator: ".", Count: 100}
)

// Owns implements formats.Format.
func (f *format) Owns(name, _ string) bool {
	for _, base := range f.names {
		rest, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		if rest == "" || isNumber(rest, "__") || isNumber(rest, ".") {
			return true
		}
	}
	return false
}

// isNumber reports whether a text is a separator and a number.
func isNumber(text, separator string) bool {
	digits, ok := strings.CutPrefix(text, separator)
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// Headers implements formats.Format.
func (*format) Headers() []string { return nil }

// Readings implements formats.Format. Cookies of the same name that have another form
// are those of Remix, Clerk and Firebase.
func (f *format) Readings(parts []formats.Part) (all []formats.Reading) {
	sent := parts
	parts = slices.Clone(parts)
	for i := range parts {
		parts[i].Name = withoutZeros(parts[i].Name)
	}
	for _, name := range f.names {
		all = append(all, chunks.Readings(parts, name)...)
		all = append(all, chunks3.Joined(parts, name)...)
		for _, separator := range []string{"__", "."} {
			all = append(all, byName(sent, name+separator)...)
		}
	}
	return slices.DeleteFunc(all, func(r formats.Reading) bool { return !IsSession(r.Text) })
}

// byName returns what the library reads if chunks have the same number, as __1 and
// __01 have: it sorts them by that, and counts them, but does not compare it. Of each
// name, Next.js takes the last cookie, and others take the first.
func byName(parts []formats.Part, prefix string) (all []formats.Reading) {
	var first, last []int // parts, one of each name
	numbers := make(map[string]bool)
	for i, p := range parts {
		if p.Header != "" || !strings.HasPrefix(p.Name, prefix) || !isNumber(p.Name[len(prefix):], "") {
			continue
		}
		numbers[withoutZeros(p.Name)] = true
		at := slices.IndexFunc(first, func(k int) bool { return parts[k].Name == p.Name })
		if at < 0 {
			first, last = append(first, i), append(last, i)
		} else {
			last[at] = i
		}
	}
	if len(numbers) == len(first) || len(first) > maxSplit {
		return nil
	}
	for _, chosen := range [][]int{first, last} {
		slices.SortStableFunc(chosen, func(a, b int) int {
			x, y := withoutZeros(parts[a].Name), withoutZeros(parts[b].Name)
			return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
		})
		var text strings.Builder
		for _, i := range chosen {
			text.WriteString(parts[i].Value)
		}
		all = append(all, formats.Reading{Text: text.String(), Parts: chosen})
	}
	return all
}

// maxSplit bounds the chunks that are read by name. The library writes a handful.
const maxSplit = 100

// withoutZeros removes the zeros before the number at the end of a name, which the
// library takes for the same number.
func withoutZeros(name string) string {
	base := strings.TrimRight(name, "0123456789")
	digits := name[len(base):]
	if trimmed := strings.TrimLeft(digits, "0"); trimmed != "" || digits == "" {
		return base + trimmed
	}
	return base + "0"
}

// Decode implements formats.Format.
func (f *format) Decode(text string, now time.Time) (formats.Session, error) {
	claims, expires, err := f.decrypter.Decrypt(text)
	if err != nil {
		return formats.Session{}, formats.ErrInvalid
	}
	return f.Session(claims, canonical(text), expires, now)
}
