package logout

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
)

// TestThePlanOfOpenIDForBackChannelLogout has the modules of the plan for relying parties
// in the conformance suite of the OpenID Foundation, oidcc-client-back-channel-logout-rp-basic.
// Its provider has a key of RSA and one of an elliptic curve, and signs with RS256. Its
// tokens have a claim, and its forms a parameter, that are to be ignored.
func TestThePlanOfOpenIDForBackChannelLogout(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	for name, c := range map[string]struct {
		claims map[string]any // that differ; nil removes one
		method jwt.SigningMethod
		key    any
		kid    string
		want   int
	}{
		"valid":             {want: http.StatusOK},
		"alg none":          {method: jwt.SigningMethodNone, key: jwt.UnsafeAllowNoneSignatureType, want: http.StatusBadRequest},
		"another algorithm": {method: jwt.SigningMethodES256, key: p.ec, kid: "k2", want: http.StatusBadRequest},
		"no events":         {claims: map[string]any{"events": nil}, want: http.StatusBadRequest},
		"another event":     {claims: map[string]any{"events": map[string]any{logoutEvent + "-x": map[string]any{}}}, want: http.StatusBadRequest},
		"with a nonce":      {claims: map[string]any{"nonce": "n"}, want: http.StatusBadRequest},
		"another audience":  {claims: map[string]any{"aud": "app-x"}, want: http.StatusBadRequest},
		"another issuer":    {claims: map[string]any{"iss": "https://id.example/x"}, want: http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := claims()
			all["sid"], all["unknown"] = "s1", "to be ignored"
			for name, value := range c.claims {
				if all[name] = value; value == nil {
					delete(all, name)
				}
			}
			if c.method == nil {
				c.method, c.key, c.kid = jwt.SigningMethodRS256, p.rsa, "k1"
			}
			token := signed(t, c.method, c.key, map[string]any{"kid": c.kid, "typ": "logout+jwt"}, all)
			var l listed
			e := p.endpoint(t, "")
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = e.Serve(w, r, l.open) }))
			defer server.Close()
			response, err := server.Client().PostForm(server.URL, url.Values{"logout_token": {token}, "unknown": {"to be ignored"}})
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != c.want || (len(l.all) > 0) != (c.want == http.StatusOK) {
				t.Errorf("status %d, ended %v", response.StatusCode, l.all)
			}
			if response.Header.Get("Cache-Control") != "no-store" {
				t.Error("the answer may be cached")
			}
		})
	}
}

func TestOnlyTheAlgorithmsThatAreConfiguredAreAccepted(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	rs := p.sign(t, claims())
	es := signed(t, jwt.SigningMethodES256, p.ec, map[string]any{"kid": "k2"}, claims())
	ps := signed(t, jwt.SigningMethodPS256, p.rsa, map[string]any{"kid": "k1"}, claims())
	for configured, accepted := range map[string][]string{
		"": {rs}, "RS256": {rs}, "ES256": {es}, "RS256 ES256": {rs, es}, "EdDSA": {},
	} {
		for name, token := range map[string]string{"RS256": rs, "ES256": es, "PS256, by the key for RS256": ps} {
			b := Backchannel{Path: "/", Issuer: "https://id.example", Audience: "app", JWKS: p.file, Algorithms: strings.Fields(configured), Accounts: identities.Accounts{SubIsUserID: true}}
			e, err := b.Open(environment.New(), Defaults{}, openKeySet)
			if err != nil {
				t.Fatal(err)
			}
			e.now = func() time.Time { return now }
			want := http.StatusBadRequest
			for _, one := range accepted {
				if one == token {
					want = http.StatusOK
				}
			}
			var l listed
			w := serve(e, form(token), &l)
			if w.Code != want {
				t.Errorf("algorithms %q: %s: status %d %s", configured, name, w.Code, w.Body)
			}
			if want != http.StatusOK && !strings.Contains(w.Body.String(), "`algorithms`") {
				t.Errorf("algorithms %q: %s: the answer is %s", configured, name, w.Body)
			}
		}
	}
}

// An Auth.js app renews the iat of its sessions, so one that the provider has ended may
// seem to be younger than the logout token.
func TestUpToWhenTheSessionsOfAUserEnd(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	for name, c := range map[string]struct {
		lasting bool
		issued  time.Duration // the iat of the logout token, after its receipt
		want    time.Duration
	}{
		"sessions say when they were renewed":                          {false, -time.Minute, 0},
		"sessions say when they were renewed, the provider's is ahead": {false, time.Minute, 0},
		"sessions say when their user signed in":                       {true, -time.Minute, -time.Minute},
		"sessions say when their user signed in, and it is ahead":      {true, time.Minute, 0},
	} {
		b := Backchannel{Path: "/", Issuer: "https://id.example", Audience: "app", JWKS: p.file, Accounts: identities.Accounts{SubIsUserID: true}}
		e, err := b.Open(environment.New(), Defaults{IssuedAt: c.lasting}, openKeySet)
		if err != nil {
			t.Fatal(err)
		}
		e.now = func() time.Time { return now }
		all := claims()
		all["iat"] = now.Add(c.issued).Unix()
		var l listed
		if w := serve(e, form(p.sign(t, all)), &l); w.Code != http.StatusOK || len(l.all) != 1 || !l.all[0].At.Equal(now.Add(c.want)) {
			t.Errorf("%s: status %d, ended %v", name, w.Code, l.all)
		}
	}
}

// A sub is not the id of a user, unless the operator says so.
func TestASubEndsNothingIfItIsNotSaidWhoseItIs(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	b := Backchannel{Path: "/", Issuer: "https://id.example", Audience: "app", JWKS: p.file}
	e, err := b.Open(environment.New(), Defaults{}, openKeySet)
	if err != nil {
		t.Fatal(err)
	}
	e.now = func() time.Time { return now }
	var l listed
	w := httptest.NewRecorder()
	if _, err := e.Serve(w, form(p.sign(t, claims())), l.open); w.Code != http.StatusBadRequest || len(l.all) > 0 || err == nil || !strings.Contains(err.Error(), "add `provider`") || !IsInvalid(err) {
		t.Errorf("status %d, ended %v, error %v", w.Code, l.all, err)
	}
	both := claims()
	both["sid"] = "s1"
	if w := serve(e, form(p.sign(t, both)), &l); w.Code != http.StatusOK || len(l.all) != 1 || l.all[0].Session != "s1" {
		t.Errorf("with a sid: status %d, ended %v", w.Code, l.all)
	}
}
