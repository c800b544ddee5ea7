package provision

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/betterauth"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// TestWhichFormatsAreOn is about the secrets that there are, and the options.
func TestWhichFormatsAreOn(t *testing.T) {
	for name, c := range map[string]struct {
		environment string // the variables that are set
		formats     []caddy.Module
		tokens      session.TokenOptions
		on          string // of the libraries, those whose cookies are read
		fails       string
	}{
		"no secret":                    {"", nil, session.TokenOptions{}, "", "set AUTH_SECRET or NEXTAUTH_SECRET"},
		"that of Auth.js":              {"NEXTAUTH_SECRET", nil, session.TokenOptions{}, "authjs", ""},
		"one that both use":            {"AUTH_SECRET", nil, session.TokenOptions{}, "authjs better-auth", ""},
		"that of Better Auth":          {"BETTER_AUTH_SECRET", nil, session.TokenOptions{}, "better-auth", ""},
		"both":                         {"NEXTAUTH_SECRET BETTER_AUTH_SECRETS", nil, session.TokenOptions{}, "authjs better-auth", ""},
		"one in the options":           {"BETTER_AUTH_SECRET", nil, session.TokenOptions{Secrets: []string{"a secret"}}, "authjs better-auth", ""},
		"a cookie without a secret":    {"BETTER_AUTH_SECRET", nil, session.TokenOptions{Cookies: []string{"sid"}}, "", "set AUTH_SECRET or NEXTAUTH_SECRET"},
		"only Auth.js":                 {"AUTH_SECRET", []caddy.Module{new(session.AuthJS)}, session.TokenOptions{}, "authjs", ""},
		"only Better Auth":             {"AUTH_SECRET", []caddy.Module{new(betterauth.Module)}, session.TokenOptions{}, "better-auth", ""},
		"only Better Auth, no secret":  {"", []caddy.Module{new(betterauth.Module)}, session.TokenOptions{}, "", "format better_auth: no key"},
		"only Better Auth, an option":  {"AUTH_SECRET", []caddy.Module{new(betterauth.Module)}, session.TokenOptions{Subject: "id"}, "", "add `format authjs`"},
		"twice, and Auth.js":           {"AUTH_SECRET", []caddy.Module{new(betterauth.Module), &betterauth.Module{Prefix: "app"}, new(session.AuthJS)}, session.TokenOptions{}, "authjs better-auth app", ""},
		"what is no format of session": {"AUTH_SECRET", []caddy.Module{plain{}}, session.TokenOptions{}, "", "reads no sessions"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"AUTH_SECRET", "NEXTAUTH_SECRET", "BETTER_AUTH_SECRET", "BETTER_AUTH_SECRETS"} {
				t.Setenv(variable, "")
			}
			for variable := range strings.FieldsSeq(c.environment) {
				t.Setenv(variable, "1:a secret")
			}
			var resources Resources
			defer func() {
				if err := resources.Release(); err != nil {
					t.Error(err)
				}
			}()
			reader, err := resources.Reader(environment.New(), Sessions{Tokens: c.tokens, Formats: c.formats})
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var on []string
			for _, library := range []struct{ name, cookie string }{
				{"authjs", "authjs.session-token"}, {"better-auth", "better-auth.session_token"}, {"app", "app.session_data.0"},
			} {
				var s session.Session
				if reader.Read(http.Header{"Cookie": {library.cookie + "=x"}}, &s); len(s.Names) > 0 {
					on = append(on, library.name)
				}
			}
			if got := strings.Join(on, " "); got != c.on {
				t.Errorf("on: %q", got)
			}
		})
	}
}

// plain is a module of another kind.
type plain struct{}

func (plain) CaddyModule() caddy.ModuleInfo { return caddy.ModuleInfo{ID: "plain"} }

// TestReadersOfTheSameFormatsAreShared is about what a format depends on: its options,
// and what it is told.
func TestReadersOfTheSameFormatsAreShared(t *testing.T) {
	var resources Resources
	t.Cleanup(func() {
		if err := resources.Release(); err != nil {
			t.Error(err)
		}
	})
	read := func(secret string, m betterauth.Module) *session.Reader {
		t.Helper()
		t.Setenv("BETTER_AUTH_SECRET", secret)
		reader, err := resources.Reader(environment.New(), Sessions{Formats: []caddy.Module{&m}})
		if err != nil {
			t.Fatal(err)
		}
		return reader
	}
	t.Setenv("ONE", "one")
	one := read("one", betterauth.Module{})
	if read("one", betterauth.Module{}) != one {
		t.Error("the same is not shared")
	}
	others := map[*session.Reader]bool{
		one: true, read("two", betterauth.Module{}): true, read("one", betterauth.Module{Prefix: "app"}): true, read("one", betterauth.Module{Secrets: []string{"{env.ONE}"}}): true,
	}
	if len(others) != 4 {
		t.Error("what differs is shared")
	}
}
