package supabase

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/cookie"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/reads"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/vectors"
)

func TestSessionsOfTheRealLibrary(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Read(t, "testdata/vectors.json") {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			module := &Supabase{Options: cookie.Options{Secrets: v.Keys()}}
			if v.JWKS != nil {
				module.JWKS = filepath.Join(t.TempDir(), "jwks.json")
				if err := os.WriteFile(module.JWKS, v.JWKS, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			reader := reads.Reader(t, module)
			if v.ID == "supabase-expired" { // the app can refresh it
				if got := reads.Subjects(reader, v.Header()); !slices.Equal(got, []string{"app asks"}) {
					t.Errorf("read %q", got)
				}
				return
			}
			reads.Check(t, reader, &v, "")
		})
	}
}

func TestWhatIsParsed(t *testing.T) {
	t.Parallel()
	usual, err := mint.Supabase("a.b.c", map[string]any{"id": "x"})
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(json string) string { return "base64-" + base64.RawURLEncoding.EncodeToString([]byte(json)) }
	for name, c := range map[string]struct {
		value string
		want  Session
	}{
		"as it is written":               {usual, Session{"a.b.c", true}},
		"with what the library ignores":  {usual + "=\n", Session{"a.b.c", true}},
		"with a character more":          {encoded(`{"access_token":"a.b.c"}`) + "A", Session{"a.b.c", false}},
		"as JSON":                        {`{"access_token":"a.b.c","refresh_token":"r"}`, Session{"a.b.c", true}},
		"as JSON behind blanks":          {" \t\r\n" + `{"access_token":"a.b.c","refresh_token":"r"}`, Session{"a.b.c", true}},
		"without a refresh token":        {encoded(`{"access_token":"a.b.c"}`), Session{"a.b.c", false}},
		"with an empty one":              {encoded(`{"access_token":"a.b.c","refresh_token":""}`), Session{"a.b.c", false}},
		"the last of two names":          {encoded(`{"access_token":"x","access_token":"a.b.c"}`), Session{"a.b.c", false}},
		"names in the letters they have": {encoded(`{"access_token":"a.b.c","ACCESS_TOKEN":"x"}`), Session{"a.b.c", false}},
		"with a token that is no text":   {encoded(`{"access_token":{}}`), Session{}},
		"without a token":                {encoded(`{"user":{"id":"x"}}`), Session{}},
		"null":                           {encoded(`null`), Session{}},
		"a list":                         {encoded(`["a.b.c"]`), Session{}},
		"a PKCE verifier":                {encoded(`"95e638e4"`), Session{}},
		"more behind it":                 {encoded(`{"access_token":"a.b.c"}{}`), Session{}},
		"not base64":                     {"base64-!", Session{}},
		"empty":                          {"", Session{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := Parse(c.value)
			if got != c.want || ok != (c.want.AccessToken != "") {
				t.Errorf("parsed %+v, %t", got, ok)
			}
		})
	}
}

// TestASessionIsReadInEverySpelling has a session that the app reads, too.
func TestASessionIsReadInEverySpelling(t *testing.T) {
	t.Parallel()
	const secret = "a secret of the project: 32 bytes or more"
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	reader := reads.Reader(t, &Supabase{Options: cookie.Options{Secrets: []string{secret}}})
	cookies := func(value string) http.Header { return http.Header{"Cookie": {"sb-x-auth-token=" + value}} }
	field := func(value string) http.Header { return http.Header{"Authorization": {value}} }
	encoded := url.PathEscape(`{"access_token":"` + token + `"}`)
	for name, header := range map[string]http.Header{
		"JSON":                             cookies(encoded),
		"JSON behind a blank":              cookies("%20" + encoded),
		"JSON behind a line feed":          cookies("%0A" + encoded),
		"a Bearer token":                   field("Bearer " + token),
		"a Bearer token behind two blanks": field("bearer  " + token),
		"a Bearer token and more":          field("Bearer " + token + " x"),
	} {
		if got := reads.Subjects(reader, header); !slices.Equal(got, []string{"ada"}) {
			t.Errorf("%s: read %q", name, got)
		}
	}
}

func TestNamesOfSessionCookies(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"sb-abcdefghijklmnopqrst-auth-token":               true,
		"sb-127-auth-token":                                true,
		"sb-abcdefghijklmnopqrst-auth-token-code-verifier": false,
		"sb-x-auth-token-flow-1-code-verifier":             false,
		"sb--auth-token":                                   false,
		"__Host-sb-x-auth-token":                           false,
	} {
		if IsCookie(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}

// FuzzParse must not panic, and finds no token that is not there.
func FuzzParse(f *testing.F) {
	for _, v := range vectors.Read(f, "testdata/vectors.json") {
		if text := v.Text(); len(text) < 4000 {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, value string) {
		if s, ok := Parse(value); ok != (s.AccessToken != "") {
			t.Errorf("%q: %+v, %t", value, s, ok)
		}
	})
}
