package signals

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
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
		"another algorithm": {method: jwt.SigningMethodES256, key: p.ec, kid: "e", want: http.StatusBadRequest},
		"no events":         {claims: map[string]any{"events": nil}, want: http.StatusBadRequest},
		"another event":     {claims: map[string]any{"events": map[string]any{logoutEvent + "-x": map[string]any{}}}, want: http.StatusBadRequest},
		"with a nonce":      {claims: map[string]any{"nonce": "n"}, want: http.StatusBadRequest},
		"another audience":  {claims: map[string]any{"aud": "app-x"}, want: http.StatusBadRequest},
		"another issuer":    {claims: map[string]any{"iss": issuer + "/x"}, want: http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := with(with(loggedOut(), "sid", "s1"), "unknown", "to be ignored")
			for name, value := range c.claims {
				all = with(all, name, value)
			}
			if c.method == nil {
				c.method, c.key, c.kid = jwt.SigningMethodRS256, p.rsa, "r"
			}
			token := sign(t, c.method, c.key, c.kid, typeLogout, all)
			e, s := p.logout(t, ""), newSite(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.Serve(w, r, s.acquire) }))
			defer server.Close()
			response, err := server.Client().PostForm(server.URL, url.Values{"logout_token": {token}, "unknown": {"to be ignored"}})
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != c.want || (len(s.revoked()) > 0) != (c.want == http.StatusOK) {
				t.Errorf("status %d, ended %v", response.StatusCode, s.revoked())
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
	rs := p.sign(t, typeLogout, loggedOut())
	es := sign(t, jwt.SigningMethodES256, p.ec, "e", "JWT", loggedOut())
	ps := sign(t, jwt.SigningMethodPS256, p.rsa, "r", "JWT", loggedOut())
	for configured, accepted := range map[string][]string{
		"": {rs}, "RS256": {rs}, "ES256": {es}, "RS256 ES256": {rs, es}, "EdDSA": {},
	} {
		for name, token := range map[string]string{"RS256": rs, "ES256": es, "PS256, by the key for RS256": ps} {
			b := p.backchannel()
			b.Algorithms = strings.Fields(configured)
			want := http.StatusBadRequest
			for _, one := range accepted {
				if one == token {
					want = http.StatusOK
				}
			}
			w := serve(openLogout(t, b, Defaults{}), form(token), newSite(t))
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
		e, s := openLogout(t, p.backchannel(), Defaults{IssuedAt: c.lasting}), newSite(t)
		token := p.sign(t, typeLogout, with(loggedOut(), "iat", now.Add(c.issued).Unix()))
		w := serve(e, form(token), s)
		if all := s.revoked(); w.Code != http.StatusOK || len(all) != 1 || !all[0].At.Equal(now.Add(c.want)) {
			t.Errorf("%s: status %d, ended %v", name, w.Code, all)
		}
	}
}

// A sub is not the id of a user, unless the operator says so.
func TestASubEndsNothingIfItIsNotSaidWhoseItIs(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	b := p.backchannel()
	b.SubIsUserID = false
	e, s := openLogout(t, b, Defaults{}), newSite(t)
	w := httptest.NewRecorder()
	result := e.Serve(w, form(p.sign(t, typeLogout, loggedOut())), s.acquire)
	if w.Code != http.StatusBadRequest || len(s.revoked()) > 0 || result.Err == nil || !strings.Contains(result.Err.Error(), "add `provider`") || !result.Refused {
		t.Errorf("status %d, ended %v, error %v", w.Code, s.revoked(), result.Err)
	}
	w = serve(e, form(p.sign(t, typeLogout, with(loggedOut(), "sid", "s1"))), s)
	if all := s.revoked(); w.Code != http.StatusOK || len(all) != 1 || all[0].Session != "s1" {
		t.Errorf("with a sid: status %d, ended %v", w.Code, all)
	}
}
