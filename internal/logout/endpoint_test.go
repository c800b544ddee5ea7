package logout

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"maps"
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

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/signals"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// provider is an OpenID provider with two keys.
type provider struct {
	rsa  *rsa.PrivateKey
	ec   *ecdsa.PrivateKey
	file string // its key set
}

func newProvider(t *testing.T) provider {
	t.Helper()
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(gojose.JSONWebKeySet{Keys: []gojose.JSONWebKey{
		{Key: rsaKey.Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"}, {Key: ecKey.Public(), KeyID: "k2", Algorithm: "ES256", Use: "sig"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := provider{rsaKey, ecKey, filepath.Join(t.TempDir(), "jwks.json")}
	if err := os.WriteFile(p.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// claims returns the claims of a valid logout token.
func claims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": "https://id.example", "aud": "app", "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": "j1",
		"sub": "ada", "events": map[string]any{logoutEvent: map[string]any{}},
	}
}

func (p provider) sign(t *testing.T, c jwt.MapClaims) string {
	t.Helper()
	return signed(t, jwt.SigningMethodRS256, p.rsa, map[string]any{"kid": "k1", "typ": "logout+jwt"}, c)
}

// signed signs claims under a header.
func signed(t *testing.T, method jwt.SigningMethod, key any, header map[string]any, c jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// listed records what was revoked.
type listed struct {
	all  []revocation.Revocation
	fail error
}

func (l *listed) revoke(_ context.Context, r revocation.Revocation) error {
	if err := errors.Join(r.Validate(), l.fail); err != nil {
		return err
	}
	l.all = append(l.all, r)
	return nil
}

// open implements Open.
func (l *listed) open() (Site, func()) { return Site{Revoke: l.revoke}, func() {} }

// openKeySet opens the key set in a file.
func openKeySet(file string) (*jose.JWKS, error) { return jose.OpenJWKS(file, nil) }

func (p provider) endpoint(t *testing.T, ends string) *Endpoint {
	t.Helper()
	b := Backchannel{Path: "/logout", Issuer: "https://id.example", Audience: "app", JWKS: p.file, Ends: ends, Accounts: identities.Accounts{SubIsUserID: true}}
	e, err := b.Open(environment.New(), Defaults{}, openKeySet)
	if err != nil {
		t.Fatal(err)
	}
	e.now = func() time.Time { return now }
	return e
}

func form(token string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func serve(e *Endpoint, r *http.Request, l *listed) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	_, _ = e.Serve(w, r, l.open)
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
		token, ends string
		want        revocation.Revocation
	}{
		"of a user":                   {set("aud", "app"), "", ada},
		"for several apps":            {set("aud", []string{"other", "app"}), "", ada},
		"of a session":                {p.sign(t, both), "", s1},
		"of a session, ends session":  {p.sign(t, both), "session", s1},
		"of a session, ends the user": {p.sign(t, both), "user", ada},
	} {
		t.Run(name, func(t *testing.T) {
			var l listed
			w := serve(p.endpoint(t, c.ends), form(c.token), &l)
			if w.Code != http.StatusOK || len(l.all) != 1 || l.all[0].Subject != c.want.Subject || l.all[0].Session != c.want.Session || !l.all[0].At.Equal(c.want.At) {
				t.Errorf("status %d %s, ended %v", w.Code, w.Body, l.all)
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Error("it may be cached")
			}
		})
	}
	for name, token := range map[string]string{
		"of nobody":                 set("sub", nil),
		"of another issuer":         set("iss", "https://evil.example"),
		"for another app":           set("aud", "other"),
		"without an audience":       set("aud", nil),
		"of an hour ago":            set("iat", now.Add(-time.Hour).Unix()),
		"of an hour ahead":          set("iat", now.Add(time.Hour).Unix()),
		"without iat":               set("iat", nil),
		"expired":                   set("exp", now.Add(-2*time.Minute).Unix()),
		"without exp":               set("exp", nil),
		"without jti":               set("jti", nil),
		"with a nonce, an ID token": set("nonce", "n"),
		"without events":            set("events", nil),
		"of another event":          set("events", map[string]any{"https://x": map[string]any{}}),
		"whose event is no object":  set("events", map[string]any{logoutEvent: true}),
		"of a huge subject":         set("sub", strings.Repeat("x", 2000)),
		"signed by another":         other.sign(t, claims()),
		"not signed":                unsigned,
		"signed with a secret":      symmetric,
		"that is none":              "a.b.c",
		"that is empty":             "",
	} {
		t.Run(name, func(t *testing.T) {
			var l listed
			w := serve(p.endpoint(t, ""), form(token), &l)
			if w.Code != http.StatusBadRequest || len(l.all) > 0 {
				t.Errorf("status %d, ended %v", w.Code, l.all)
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Error("it may be cached")
			}
		})
	}
	delete(both, "sub")
	var l listed
	if w := serve(p.endpoint(t, "user"), form(p.sign(t, both)), &l); w.Code != http.StatusBadRequest || len(l.all) > 0 {
		t.Errorf("of a session without a user, ends the user: status %d, ended %v", w.Code, l.all)
	}
}

func TestATokenIsUsedOnceAndAgainIfThatFailed(t *testing.T) {
	p := newProvider(t)
	l := listed{fail: errors.New("the store is unavailable")}
	e := p.endpoint(t, "")
	token := p.sign(t, claims())
	if w := serve(e, form(token), &l); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("while the store fails: status %d", w.Code)
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

func TestInvalidRequests(t *testing.T) {
	p := newProvider(t)
	var l listed
	e := p.endpoint(t, "")
	plain := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("logout_token="+p.sign(t, claims())))
	valid := url.Values{"logout_token": {p.sign(t, claims())}}.Encode()
	huge, twice, empty := form("x"), form("x"), form("x")
	huge.Body = io.NopCloser(strings.NewReader(valid + "&x=" + strings.Repeat("x", signals.MaxBody)))
	twice.Body = io.NopCloser(strings.NewReader(valid + "&" + valid))
	empty.Body = http.NoBody
	for name, c := range map[string]struct {
		r    *http.Request
		want int
	}{
		"a GET":         {httptest.NewRequest(http.MethodGet, "/", nil), http.StatusMethodNotAllowed},
		"no form":       {plain, http.StatusBadRequest},
		"a huge body":   {huge, http.StatusBadRequest},
		"two tokens":    {twice, http.StatusBadRequest},
		"an empty body": {empty, http.StatusBadRequest},
	} {
		if w := serve(e, c.r, &l); w.Code != c.want {
			t.Errorf("%s: status %d, want %d", name, w.Code, c.want)
		}
	}
	if len(l.all) != 0 {
		t.Errorf("ended %v", l.all)
	}
}

func TestABodyThatDoesNotArrive(t *testing.T) {
	t.Parallel()
	e := newProvider(t).endpoint(t, "")
	e.bodyTimeout = time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = e.Serve(w, r, func() (Site, func()) {
			t.Error("a session ends")
			return Site{}, func() {}
		})
	}))
	defer server.Close()
	body, slow := io.Pipe()
	defer slow.Close()
	response, err := server.Client().Post(server.URL, "application/x-www-form-urlencoded", body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestOptionsDefaultToThoseOfTheSessionTokens(t *testing.T) {
	p := newProvider(t)
	t.Setenv("LOGOUT_TEST_ISSUER", "https://id.example")
	defaults := Defaults{Issuer: "{env.LOGOUT_TEST_ISSUER}", Audience: "app", JWKS: p.file}
	e, err := (&Backchannel{Accounts: identities.Accounts{SubIsUserID: true}}).Open(environment.New(), defaults, openKeySet)
	if err != nil {
		t.Fatal(err)
	}
	e.now = func() time.Time { return now }
	var l listed
	if w := serve(e, form(p.sign(t, claims())), &l); w.Code != http.StatusOK || len(l.all) != 1 {
		t.Errorf("status %d %s, ended %v", w.Code, w.Body, l.all)
	}
	if e.Path != environment.New().AuthPath()+"/backchannel-logout" {
		t.Errorf("path %s", e.Path)
	}
}

func TestInvalidOptions(t *testing.T) {
	p := newProvider(t)
	all := Defaults{Issuer: "https://id.example", Audience: "app", JWKS: p.file}
	for says, c := range map[string]struct {
		options  Backchannel
		defaults Defaults
	}{
		"issuer, audience and jwks are required":                 {Backchannel{}, Defaults{Issuer: "x", JWKS: p.file}},
		`ends is "all"; it must be one of session, user`:         {Backchannel{Ends: "all"}, all},
		`path is "logout"; it must begin with a slash`:           {Backchannel{Path: "logout"}, all},
		"audience: evaluated placeholder {env.NOT_SET} is empty": {Backchannel{Audience: "{env.NOT_SET}"}, all},
		"`ends user` needs `provider`":                           {Backchannel{Ends: "user"}, all},
		"provider and sub_is_user_id exclude each other":         {Backchannel{Accounts: identities.Accounts{Provider: []string{"keycloak"}, SubIsUserID: true}}, all},
		`algorithms has "HS256"`:                                 {Backchannel{Algorithms: []string{"RS256", "HS256"}}, all},
		`algorithms has "none"`:                                  {Backchannel{Algorithms: []string{"none"}}, all},
		"open /nowhere/jwks.json":                                {Backchannel{JWKS: "/nowhere/jwks.json"}, all},
	} {
		if _, err := c.options.Open(environment.New(), c.defaults, openKeySet); err == nil || !strings.HasPrefix(err.Error(), "backchannel_logout: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}
