package signals

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// loggedOut returns the claims of a valid logout token.
func loggedOut() object {
	return object{
		"iss": issuer, "aud": "app", "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": "j1",
		"sub": "ada", "events": map[string]any{logoutEvent: map[string]any{}},
	}
}

const typeLogout = "logout+jwt"

// backchannel returns the options of an endpoint whose sub is a user's id.
func (p *provider) backchannel() Backchannel {
	return Backchannel{Source: Source{Path: "/logout", Issuer: issuer, JWKS: p.file, Accounts: identities.Accounts{SubIsUserID: true}}, Audience: "app"}
}

func openLogout(t *testing.T, b Backchannel, defaults Defaults) *logout {
	t.Helper()
	e, err := Open(&b, environment.New(), defaults, keys{})
	if err != nil {
		t.Fatal(err)
	}
	l := e.(*logout)
	l.now = func() time.Time { return now }
	return l
}

// logout returns an endpoint.
func (p *provider) logout(t *testing.T, ends string) *logout {
	t.Helper()
	b := p.backchannel()
	b.Ends = ends
	return openLogout(t, b, Defaults{})
}

func form(token string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// serve has an endpoint serve a request.
func serve(e Endpoint, r *http.Request, s *site) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	e.Serve(w, r, s.acquire)
	return w
}

func TestLogoutTokens(t *testing.T) {
	p, other := newProvider(t), newProvider(t)
	set := func(name string, value any) string {
		return p.sign(t, typeLogout, with(loggedOut(), name, value))
	}
	both := with(loggedOut(), "sid", "s1")
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims(loggedOut())).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	symmetric, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(loggedOut())).SignedString([]byte("k1"))
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
		"with an exp in milliseconds": {set("exp", now.Add(2*time.Minute).UnixMilli()), "", ada},
		"of a session":                {p.sign(t, typeLogout, both), "", s1},
		"of a session, ends session":  {p.sign(t, typeLogout, both), "session", s1},
		"of a session, ends the user": {p.sign(t, typeLogout, both), "user", ada},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			w := serve(p.logout(t, c.ends), form(c.token), s)
			if all := s.revoked(); w.Code != http.StatusOK || len(all) != 1 || all[0].Subject != c.want.Subject || all[0].Session != c.want.Session || !all[0].At.Equal(c.want.At) {
				t.Errorf("status %d %s, ended %v", w.Code, w.Body, all)
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
		"whose sid is a number":     set("sid", 1),
		"of a huge subject":         set("sub", strings.Repeat("x", 2000)),
		"signed by another":         other.sign(t, typeLogout, loggedOut()),
		"not signed":                unsigned,
		"signed with a secret":      symmetric,
		"that is none":              "a.b.c",
		"that is empty":             "",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			w := serve(p.logout(t, ""), form(token), s)
			if w.Code != http.StatusBadRequest || len(s.revoked()) > 0 {
				t.Errorf("status %d, ended %v", w.Code, s.revoked())
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Error("it may be cached")
			}
		})
	}
	s := newSite(t)
	if w := serve(p.logout(t, "user"), form(p.sign(t, typeLogout, with(both, "sub", nil))), s); w.Code != http.StatusBadRequest || len(s.revoked()) > 0 {
		t.Errorf("of a session without a user, ends the user: status %d, ended %v", w.Code, s.revoked())
	}
}

func TestATokenIsUsedOnceAndAgainIfThatFailed(t *testing.T) {
	p := newProvider(t)
	e, s := p.logout(t, ""), newSite(t)
	s.files.full.Store(true)
	token := p.sign(t, typeLogout, loggedOut())
	if w := serve(e, form(token), s); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("while the store fails: status %d", w.Code)
	}
	s.files.full.Store(false)
	for i, want := range []int{http.StatusOK, http.StatusBadRequest} {
		if w := serve(e, form(token), s); w.Code != want {
			t.Errorf("time %d: status %d, want %d", i, w.Code, want)
		}
	}
	if len(s.revoked()) != 1 {
		t.Errorf("ended %v", s.revoked())
	}
}

func TestInvalidRequests(t *testing.T) {
	p := newProvider(t)
	e, s := p.logout(t, ""), newSite(t)
	plain := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("logout_token="+p.sign(t, typeLogout, loggedOut())))
	valid := url.Values{"logout_token": {p.sign(t, typeLogout, loggedOut())}}.Encode()
	huge, twice, empty := form("x"), form("x"), form("x")
	huge.Body = io.NopCloser(strings.NewReader(valid + "&x=" + strings.Repeat("x", maxBody)))
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
		if w := serve(e, c.r, s); w.Code != c.want {
			t.Errorf("%s: status %d, want %d", name, w.Code, c.want)
		}
	}
	if len(s.revoked()) != 0 {
		t.Errorf("ended %v", s.revoked())
	}
}

func TestABodyThatDoesNotArrive(t *testing.T) {
	t.Parallel()
	e := newProvider(t).logout(t, "")
	e.bodyTimeout = time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.Serve(w, r, func() (Target, func()) {
			t.Error("a session ends")
			return Target{}, func() {}
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
	t.Setenv("LOGOUT_TEST_ISSUER", issuer)
	defaults := Defaults{Issuer: "{env.LOGOUT_TEST_ISSUER}", Audience: "app", JWKS: p.file, AuthPath: environment.New().AuthPath()}
	e, s := openLogout(t, Backchannel{Source: Source{Accounts: identities.Accounts{SubIsUserID: true}}}, defaults), newSite(t)
	if w := serve(e, form(p.sign(t, typeLogout, loggedOut())), s); w.Code != http.StatusOK || len(s.revoked()) != 1 {
		t.Errorf("status %d %s, ended %v", w.Code, w.Body, s.revoked())
	}
	if e.At() != environment.New().AuthPath()+"/backchannel-logout" {
		t.Errorf("path %s", e.At())
	}
}

func TestOptionsOfBackchannelLogout(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	all := Defaults{Issuer: issuer, Audience: "app", JWKS: p.file}
	unfound := all
	unfound.NoUsers = true
	of := func(s Source) Backchannel { return Backchannel{Source: s} }
	for says, c := range map[string]struct {
		options  Backchannel
		defaults Defaults
	}{
		"issuer, audience and jwks are required":                 {Backchannel{}, Defaults{Issuer: "x", JWKS: p.file}},
		`ends is "all"; it must be one of session, user`:         {Backchannel{Ends: "all"}, all},
		`path is "logout"; it must begin with a slash`:           {of(Source{Path: "logout"}), all},
		"audience: evaluated placeholder {env.NOT_SET} is empty": {Backchannel{Audience: "{env.NOT_SET}"}, all},
		"`ends user` needs `provider`":                           {Backchannel{Ends: "user"}, all},
		"provider and sub_is_user_id exclude each other":         {of(Source{Accounts: identities.Accounts{Provider: []string{"keycloak"}, SubIsUserID: true}}), all},
		identities.ErrUnsupported.Error():                        {of(Source{Accounts: identities.Accounts{Provider: []string{"keycloak"}}}), unfound},
		`algorithms has "HS256"`:                                 {of(Source{Algorithms: []string{"RS256", "HS256"}}), all},
		`algorithms has "none"`:                                  {of(Source{Algorithms: []string{"none"}}), all},
		"open /nowhere/jwks.json":                                {of(Source{JWKS: "/nowhere/jwks.json"}), all},
	} {
		if _, err := Open(&c.options, environment.New(), c.defaults, keys{}); err == nil || !strings.HasPrefix(err.Error(), "backchannel_logout: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}
