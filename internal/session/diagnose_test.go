package session

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

func TestADiagnosisTellsWhatToChange(t *testing.T) {
	claims := func(more ...any) map[string]any {
		all := map[string]any{"sub": "u1", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
		for i := 0; i < len(more); i += 2 {
			all[more[i].(string)] = more[i+1]
		}
		return all
	}
	must := func(token string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	signed := func(method jwt.SigningMethod, key any) string {
		return must(jwt.NewWithClaims(method, jwt.MapClaims(claims())).SignedString(key))
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := Config{Secrets: []string{"right"}}
	formatted := Config{Formats: []formats.Format{new(plain)}}
	for name, c := range map[string]struct {
		config Config
		token  string
		says   string // empty when the token can be read
	}{
		"of NextAuth v4":                    {own, must(mint.V4("right", claims())), ""},
		"of Auth.js v5":                     {own, must(mint.V5("right", "authjs.session-token", claims())), ""},
		"signed":                            {own, signed(jwt.SigningMethodHS256, []byte("right")), ""},
		"of NextAuth v4, another secret":    {own, must(mint.V4("wrong", claims())), "the app's own NEXTAUTH_SECRET"},
		"of Auth.js v5, another secret":     {own, must(mint.V5("wrong", "authjs.session-token", claims())), "the app's own AUTH_SECRET"},
		"of a cookie that is not named":     {Config{Secrets: []string{"right"}, CookieNames: []string{"app.session"}}, must(mint.V5("right", "__Secure-authjs.session-token", claims())), "belongs to the cookie __Secure-authjs.session-token"},
		"signed with another secret":        {own, signed(jwt.SigningMethodHS512, []byte("wrong")), "HS512"},
		"signed with a private key":         {own, signed(jwt.SigningMethodES256, private), "`key_file` or `jwks`"},
		"not signed":                        {own, signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType), "not signed"},
		"expired":                           {own, must(mint.V4("right", claims("exp", time.Now().Add(-time.Hour).Unix()))), "it has expired"},
		"without a user":                    {Config{Secrets: []string{"right"}, Subject: "id"}, must(mint.V4("right", claims())), `no claim "id"`},
		"a session that is in the database": {own, "6f2d7c3e-8f5b-4a53-9a70-3c3f7c2b9d11", "database"},
		"encrypted in another way":          {own, "eyJhbGciOiJBMjU2S1ciLCJlbmMiOiJBMjU2R0NNIn0.a.b.c.d", `"A256KW"`},
		"of a format":                       {formatted, "valid:ada", ""},
		"of a format, in which is nobody":   {formatted, "nobody:", "set `subject`"},
		"of a format, expired":              {formatted, "expired:ada", "it has expired"},
		"of iron-session":                   {own, must(mint.Seal{Password: "x"}.Of(nil)), "format iron_session"},
		"of Remix":                          {own, must(mint.Remix("x", map[string]any{"userId": 1})), "format remix"},
		"of Supabase":                       {own, must(mint.Supabase("a.b.c", nil)), "format supabase"},
		"no header":                         {own, "x..y.z.w", "in its own way"},
	} {
		t.Run(name, func(t *testing.T) {
			rd, err := New(c.config)
			if err != nil {
				t.Fatal(err)
			}
			said := rd.Diagnose(c.token)
			if (said == "") != (c.says == "") || !strings.Contains(said, c.says) {
				t.Errorf("it says %q, which should contain %q", said, c.says)
			}
			if said != "" && strings.Contains(said, c.token) {
				t.Error("it repeats the token")
			}
		})
	}
}
