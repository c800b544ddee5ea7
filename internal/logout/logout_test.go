package logout

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gojose "github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// provider is an OpenID provider's key.
type provider struct {
	key  *ecdsa.PrivateKey
	file string
}

func newProvider(t *testing.T) provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(gojose.JSONWebKeySet{Keys: []gojose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	p := provider{key, filepath.Join(t.TempDir(), "jwks.json")}
	if err := os.WriteFile(p.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// claims are those of a logout token that is right.
func claims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": "https://id.example", "aud": "app", "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": "j1",
		"sub": "ada", "events": map[string]any{logoutEvent: map[string]any{}},
	}
}

func (p provider) sign(t *testing.T, c jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, c)
	token.Header["kid"], token.Header["typ"] = "k1", "logout+jwt"
	text, err := token.SignedString(p.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// listed is what was revoked.
type listed struct {
	all  []revocation.Revocation
	fail error
}

func (l *listed) revoke(_ context.Context, r revocation.Revocation) error {
	if err := errors.Join(r.Check(), l.fail); err != nil {
		return err
	}
	l.all = append(l.all, r)
	return nil
}

func (p provider) endpoint(t *testing.T, user bool) *Endpoint {
	t.Helper()
	keys, err := jose.OpenJWKS(p.file, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := jose.NewVerifier(jose.VerifierConfig{Type: jose.TypeLogout, JWKS: keys})
	if err != nil {
		t.Fatal(err)
	}
	e := New("/logout", OIDC{Keys: verifier, Issuer: "https://id.example", Audience: "app", User: user})
	e.Now = func() time.Time { return now }
	return e
}

func form(token string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func serve(e *Endpoint, r *http.Request, l *listed) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	_, _ = e.Serve(w, r, l.revoke)
	return w
}

func TestLogoutTokens(t *testing.T) {
	p, other := newProvider(t), newProvider(t)
	set := func(name string, value any) string {
		c := claims()
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return p.sign(t, c)
	}
	both := claims()
	both["sid"] = "s1"
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims()).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	symmetric, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims()).SignedString([]byte("k1"))
	if err != nil {
		t.Fatal(err)
	}
	ada, s1 := revocation.Revocation{Subject: "ada", At: now}, revocation.Revocation{Session: "s1", At: now}
	for name, c := range map[string]struct {
		token string
		user  bool
		ends  revocation.Revocation // none: it is refused
	}{
		"of a user":                   {set("aud", "app"), false, ada},
		"for several apps":            {set("aud", []string{"other", "app"}), false, ada},
		"of a session":                {p.sign(t, both), false, s1},
		"of a session, ends the user": {p.sign(t, both), true, ada},
		"of nobody":                   {set("sub", nil), false, revocation.Revocation{}},
		"of another issuer":           {set("iss", "https://evil.example"), false, revocation.Revocation{}},
		"for another app":             {set("aud", "other"), false, revocation.Revocation{}},
		"without an audience":         {set("aud", nil), false, revocation.Revocation{}},
		"of an hour ago":              {set("iat", now.Add(-time.Hour).Unix()), false, revocation.Revocation{}},
		"of an hour ahead":            {set("iat", now.Add(time.Hour).Unix()), false, revocation.Revocation{}},
		"without iat":                 {set("iat", nil), false, revocation.Revocation{}},
		"expired":                     {set("exp", now.Add(-2*time.Minute).Unix()), false, revocation.Revocation{}},
		"without exp":                 {set("exp", nil), false, revocation.Revocation{}},
		"without jti":                 {set("jti", nil), false, revocation.Revocation{}},
		"with a nonce, an ID token":   {set("nonce", "n"), false, revocation.Revocation{}},
		"without events":              {set("events", nil), false, revocation.Revocation{}},
		"of another event":            {set("events", map[string]any{"https://x": map[string]any{}}), false, revocation.Revocation{}},
		"whose event is no object":    {set("events", map[string]any{logoutEvent: true}), false, revocation.Revocation{}},
		"of a huge subject":           {set("sub", strings.Repeat("x", 2000)), false, revocation.Revocation{}},
		"signed by another":           {other.sign(t, claims()), false, revocation.Revocation{}},
		"not signed":                  {unsigned, false, revocation.Revocation{}},
		"signed with a secret":        {symmetric, false, revocation.Revocation{}},
		"that is none":                {"a.b.c", false, revocation.Revocation{}},
		"that is empty":               {"", false, revocation.Revocation{}},
	} {
		t.Run(name, func(t *testing.T) {
			var l listed
			e := p.endpoint(t, c.user)
			w := serve(e, form(c.token), &l)
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Error("it may be cached")
			}
			if c.ends == (revocation.Revocation{}) {
				if w.Code == http.StatusOK || len(l.all) > 0 {
					t.Errorf("status %d, ended %v", w.Code, l.all)
				}
				return
			}
			if w.Code != http.StatusOK || len(l.all) != 1 || l.all[0].Subject != c.ends.Subject || l.all[0].Session != c.ends.Session || !l.all[0].At.Equal(c.ends.At) {
				t.Errorf("status %d %s, ended %v", w.Code, w.Body, l.all)
			}
		})
	}
}

func TestAMessageIsTakenOnceAndAgainWhenItFailed(t *testing.T) {
	p := newProvider(t)
	l := listed{fail: errors.New("the store is away")}
	e := p.endpoint(t, false)
	token := p.sign(t, claims())
	if w := serve(e, form(token), &l); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("while it cannot be kept: status %d", w.Code)
	}
	l.fail = nil
	for i, want := range []int{http.StatusOK, http.StatusBadRequest} {
		if w := serve(e, form(token), &l); w.Code != want {
			t.Errorf("time %d: status %d, want %d", i, w.Code, want)
		}
	}
	if len(l.all) != 1 {
		t.Errorf("ended %v", l.all)
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	p := newProvider(t)
	var l listed
	e := p.endpoint(t, false)
	plain := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("logout_token="+p.sign(t, claims())))
	huge := form(strings.Repeat("x", maxBody))
	twice := form("x")
	twice.Body = http.NoBody
	for name, c := range map[string]struct {
		r    *http.Request
		want int
	}{
		"a GET":                 {httptest.NewRequest(http.MethodGet, "/", nil), http.StatusMethodNotAllowed},
		"no form":               {plain, http.StatusBadRequest},
		"a body without an end": {huge, http.StatusBadRequest},
		"an empty body":         {twice, http.StatusBadRequest},
	} {
		if w := serve(e, c.r, &l); w.Code != c.want {
			t.Errorf("%s: status %d, want %d", name, w.Code, c.want)
		}
	}
	if len(l.all) != 0 {
		t.Errorf("ended %v", l.all)
	}
}

func TestWebhooks(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	old := "whsec_" + base64.StdEncoding.EncodeToString([]byte("fedcba9876543210fedcba9876543210"))
	source, err := NewWebhook([]string{"whsec_" + base64.StdEncoding.EncodeToString(key), old})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(key []byte, id string, at time.Time, body string) string {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
		return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	const ada = `{"subject":"ada"}`
	for name, c := range map[string]struct {
		signature, body string
		at              time.Time
		want            int
	}{
		"of a subject":          {sign(key, "m1", now, ada), ada, now, 200},
		"of a session":          {sign(key, "m1", now, `{"session":"s"}`), `{"session":"s"}`, now, 200},
		"of a token":            {sign(key, "m1", now, `{"token":"t"}`), `{"token":"t"}`, now, 200},
		"with the old secret":   {"v1,AAAA " + sign([]byte("fedcba9876543210fedcba9876543210"), "m1", now, ada), ada, now, 200},
		"another body":          {sign(key, "m1", now, ada), `{"subject":"bob"}`, now, 400},
		"another id":            {sign(key, "m2", now, ada), ada, now, 400},
		"another time":          {sign(key, "m1", now.Add(-time.Second), ada), ada, now, 400},
		"of ten minutes ago":    {sign(key, "m1", now.Add(-10*time.Minute), ada), ada, now.Add(-10 * time.Minute), 400},
		"another secret":        {sign([]byte("x"), "m1", now, ada), ada, now, 400},
		"no signature":          {"", ada, now, 400},
		"a signature of nobody": {"v1a,xx", ada, now, 400},
		"of nobody":             {sign(key, "m1", now, `{}`), `{}`, now, 400},
		"of two":                {sign(key, "m1", now, `{"subject":"a","token":"b"}`), `{"subject":"a","token":"b"}`, now, 400},
		"no JSON":               {sign(key, "m1", now, `ada`), `ada`, now, 400},
	} {
		t.Run(name, func(t *testing.T) {
			var l listed
			e := New("/logout", source)
			e.Now = func() time.Time { return now }
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body))
			r.Header.Set("Webhook-Id", "m1")
			r.Header.Set("Webhook-Timestamp", fmt.Sprint(c.at.Unix()))
			r.Header.Set("Webhook-Signature", c.signature)
			w := serve(e, r, &l)
			if w.Code != c.want || (len(l.all) == 1) != (c.want == 200) {
				t.Errorf("status %d %s, ended %v", w.Code, w.Body, l.all)
			}
		})
	}
}

func TestSecretsThatCannotBeRight(t *testing.T) {
	for _, secrets := range [][]string{nil, {"short"}, {"whsec_!!!"}, {"whsec_c2hvcnQ="}} {
		if _, err := NewWebhook(secrets); err == nil || strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("%q: %v", secrets, err)
		}
	}
}
