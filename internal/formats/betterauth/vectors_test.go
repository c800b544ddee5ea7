package betterauth

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// minted is when the vectors were made by the real packages.
var minted = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// vector is what a browser sends to an app with Better Auth.
type vector struct {
	ID      string
	Secret  string
	Secrets string
	Cookies [][2]string
	Bearer  string
	JWKS    json.RawMessage
	Row     *struct{ Token, UserID string }
	Subject string
	Expect  string // claims, or nothing that tells the user
}

func vectors(t testing.TB) (all []vector) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// keys are an environment for tests.
type keys struct {
	variables map[string]string
	close     func(func())
}

func (keys) Fill(option, text string) (string, error) { return environment.New().Fill(option, text) }
func (k keys) Variable(name string) string            { return k.variables[name] }

func (k keys) Verifier(of formats.Keys) (formats.Verifier, error) {
	config := jose.VerifierConfig{Secrets: of.Secrets, Type: of.Type}
	if of.JWKS != "" {
		set, err := jose.OpenJWKS(of.JWKS, func(error) {})
		if err != nil {
			return nil, err
		}
		k.close(func() { _ = set.Close() })
		config.JWKS = set
	}
	return jose.NewVerifier(config)
}

// open opens a format.
func open(t testing.TB, m Module, variables map[string]string) formats.Format {
	t.Helper()
	f, err := m.OpenFormat(keys{variables, t.Cleanup})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// reader returns a reader of sessions of Better Auth.
func reader(t testing.TB, m Module, variables map[string]string, now time.Time) *session.Reader {
	t.Helper()
	rd, err := session.New(session.Config{Formats: []formats.Format{open(t, m, variables)}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	return rd
}

// header returns the header of a request.
func (v *vector) header() http.Header {
	h := make(http.Header)
	var pairs []string
	for _, c := range v.Cookies {
		pairs = append(pairs, c[0]+"="+c[1])
	}
	if pairs != nil {
		h.Set("Cookie", "theme=dark; "+strings.Join(pairs, "; "))
	}
	if v.Bearer != "" {
		h.Set("Authorization", "Bearer "+v.Bearer)
	}
	return h
}

// module returns the module that reads a vector, and its environment.
func (v *vector) module(t testing.TB) (m Module, variables map[string]string) {
	t.Helper()
	variables = map[string]string{"BETTER_AUTH_SECRET": v.Secret, "BETTER_AUTH_SECRETS": v.Secrets}
	for _, c := range v.Cookies {
		name := strings.TrimPrefix(c[0], "__Secure-")
		if strings.HasPrefix(name, "my-app.") {
			m.Prefix = "my-app"
		}
		if name == "sid" {
			m.Cookies = []string{"sid", "sdata"}
		}
	}
	if len(v.JWKS) > 0 {
		m.JWKS = filepath.Join(t.TempDir(), "jwks.json")
		if err := os.WriteFile(m.JWKS, v.JWKS, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m, variables
}

// TestSessionsOfTheRealPackages reads what the real Better Auth 1.2 to 1.7 has made.
func TestSessionsOfTheRealPackages(t *testing.T) {
	t.Parallel()
	all := vectors(t)
	for _, v := range all {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			m, variables := v.module(t)
			rd := reader(t, m, variables, minted)
			for range 2 {
				var s session.Session
				rd.Read(v.header(), &s)
				certain := slices.DeleteFunc(slices.Clone(s.Tokens), func(token session.Token) bool {
					return token.Claims.AppAsks || token.Claims.Doubtful
				})
				switch {
				case v.Expect == "claims" && (len(certain) != 1 || string(certain[0].Claims.Subject) != v.Subject):
					t.Errorf("%d sessions, want that of %s; failure %q", len(certain), v.Subject, s.Failure)
				case v.Expect == "nothing" && len(certain) > 0:
					t.Errorf("the session of %s", certain[0].Claims.Subject)
				case v.Expect == "nothing" && v.Row != nil && len(s.Tokens) == 0 && v.ID != "ba-bearer-raw":
					t.Errorf("the app's own look at its table counts for nothing: failure %q", s.Failure)
				case v.Expect == "claims" && (!certain[0].Claims.Lasting || certain[0].Claims.IssuedAt.After(minted) || minted.Sub(certain[0].Claims.IssuedAt) > 24*time.Hour):
					t.Errorf("signed in at %s", certain[0].Claims.IssuedAt)
				}
				for _, token := range certain {
					if len(token.Names) != len(v.Cookies) {
						t.Errorf("held by %q", token.Names)
					}
				}
			}
		})
	}
	if len(all) < 73 {
		t.Errorf("%d vectors", len(all))
	}
}
