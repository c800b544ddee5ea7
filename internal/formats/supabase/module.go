package supabase

import (
	"cmp"
	"encoding/json"
	"errors"
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
	caddy.RegisterModule(new(Supabase))
}

// Supabase reads the sessions of Supabase Auth: the cookies of @supabase/ssr, and access
// tokens in the header Authorization.
//
// The secret is SUPABASE_JWT_SECRET of the environment. The key set is that at
// SUPABASE_JWKS_URL, or, without a secret, that of the project at SUPABASE_URL or
// NEXT_PUBLIC_SUPABASE_URL. The cookies are sb-PROJECT-auth-token, of any project. The user
// id is the sub of the access token: the user beside it is not signed. A session whose
// access token has expired passes, if the app can refresh it: Supabase refuses that
// to users who are gone. A session whose row of auth.sessions was there and is gone
// ends, too.
type Supabase struct {
	cookie.Options

	// The file or URL of the JSON Web Key Set of the project, such as
	// https://PROJECT.supabase.co/auth/v1/.well-known/jwks.json. Default: from the
	// environment.
	JWKS string `json:"jwks,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Supabase) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: formats.Namespace + ".supabase", New: func() caddy.Module { return new(Supabase) }}
}

// UnmarshalCaddyfile sets the module up from Caddyfile tokens. Syntax:
//
//	format supabase {
//		secret  <secret...>
//		jwks    <path or URL>
//		cookie  <name...>
//		subject <path>
//	}
func (m *Supabase) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	options := m.Caddyfile()
	options["jwks"] = directive.Text(&m.JWKS)
	return directive.Block(d, "format supabase", options)
}

// OpenFormat implements formats.Module.
func (m *Supabase) OpenFormat(env formats.Environment) (formats.Format, error) {
	secrets, err := m.Keys(env, func(string) bool { return true }, "SUPABASE_JWT_SECRET")
	if err != nil && !errors.Is(err, formats.ErrNoKey) {
		return nil, err
	}
	keySet := m.JWKS
	if keySet != "" {
		if keySet, err = env.Fill("jwks", keySet); err != nil {
			return nil, err
		}
	} else if len(m.Secrets) == 0 {
		keySet = env.Variable("SUPABASE_JWKS_URL")
		if project := cmp.Or(env.Variable("SUPABASE_URL"), env.Variable("NEXT_PUBLIC_SUPABASE_URL")); keySet == "" && len(secrets) == 0 && project != "" {
			keySet = strings.TrimRight(project, "/") + "/auth/v1/.well-known/jwks.json"
		}
	}
	if len(secrets) == 0 && keySet == "" {
		return nil, cookie.NoKey("SUPABASE_JWT_SECRET", "SUPABASE_URL")
	}
	verifier, err := env.Verifier(formats.Keys{Secrets: secrets, JWKS: keySet})
	if err != nil {
		return nil, err
	}
	names, err := m.Names(env)
	return &format{m.Options, verifier, names}, err
}

type format struct {
	cookie.Options

	verifier formats.Verifier
	names    []string // of the cookies; none for those of any project
}

var chunks = cookie.Chunks{Separator: ".", Count: 100}

// Owns implements formats.Format.
func (f *format) Owns(name, _ string) bool {
	if len(f.names) > 0 {
		return chunks.IsNamed(name, f.names)
	}
	return strings.HasPrefix(name, "sb-") && IsCookie(formats.Whole(name, "."))
}

// Headers implements formats.Format.
func (*format) Headers() []string { return []string{"Authorization"} }

// Readings implements formats.Format.
func (f *format) Readings(parts []formats.Part) (all []formats.Reading) {
	names := slices.Clone(f.names)
	for i, p := range parts {
		if p.Header != "" {
			if token := formats.Bearer(p.Value); isToken(token) {
				all = append(all, formats.Reading{Text: token, Parts: []int{i}})
			}
		} else if name := formats.Whole(p.Name, "."); len(f.names) == 0 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		for _, r := range chunks.Readings(parts, name) {
			if !isToken(r.Text) {
				all = append(all, r)
			}
		}
	}
	return all
}

// isToken reports whether a text has the form of a token, and not of a cookie that
// holds one.
func isToken(text string) bool {
	return strings.Count(text, ".") == 2 && !strings.HasPrefix(text, prefix) && !isJSON(text)
}

// Decode implements formats.Format.
func (f *format) Decode(text string, now time.Time) (formats.Session, error) {
	s := Session{AccessToken: text}
	if !isToken(text) {
		var ok bool
		if s, ok = Parse(text); !ok {
			return formats.Session{}, formats.ErrInvalid
		}
	}
	claims, err := f.verifier.Verify(s.AccessToken)
	if err != nil {
		return formats.Session{}, err
	}
	expires, ok := timeOf(claims["exp"])
	if !ok {
		return formats.Session{}, formats.ErrInvalid
	}
	session, err := f.Session(claims, "", expires, now, "sub")
	switch {
	case errors.Is(err, formats.ErrExpired) && s.CanRefresh:
		return formats.Session{AppAsks: true}, nil
	case err != nil:
		return formats.Session{}, err
	}
	session.MadeAt, _ = timeOf(claims["iat"])
	session.ID = formats.Subject(claims, "session_id")
	return session, nil
}

// timeOf returns the time of a claim in seconds since 1970.
func timeOf(claim any) (time.Time, bool) {
	number, ok := claim.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	return formats.Time(number)
}

// UsersTable implements formats.Home.
func (*format) UsersTable() string { return "auth.users" }

// Store implements formats.Stored. Signing out, also elsewhere, deletes the row.
func (*format) Store() formats.Store {
	return formats.Store{Table: "auth.sessions", ID: "id", User: []string{"user_id"}, Created: []string{"created_at"}, Ends: []string{"not_after"}}
}

// Generation implements formats.Keyed.
func (f *format) Generation() uint64 { return f.verifier.Generation() }
