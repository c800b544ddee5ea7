package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// post posts a body with a header, and returns the status.
func post(t *testing.T, url, body string, header http.Header) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := caddytest.Client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// TestAnIdentityProviderEndsSessions logs people out at a provider, on a site
// whose tokens hold the provider's sid and a jti.
func TestAnIdentityProviderEndsSessions(t *testing.T) {
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `alter table "User" add email text`, `update "User" set email = 'live@example.com'`, `insert into "User" values ('other', 'other@example.com')`)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var fetched atomic.Int32
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256"}}})
	}))
	t.Cleanup(provider.Close)
	app := caddytest.NewApp(t)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, o.Config("stale_session /admin* {",
		"	users {", "		match email email", "	}",
		"	backchannel_logout {", "		issuer "+provider.URL, "		audience app", "		jwks "+provider.URL+"/jwks", "		algorithms ES256", "		sub_is_user_id", "	}",
		"}", app.Proxy()))
	logout := func(id string, claims map[string]any, key *ecdsa.PrivateKey) int {
		t.Helper()
		all := jwt.MapClaims{
			"iss": provider.URL, "aud": "app", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "jti": id,
			"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
		}
		for name, value := range claims {
			all[name] = value
		}
		token := jwt.NewWithClaims(jwt.SigningMethodES256, all)
		token.Header["kid"] = "k1"
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return post(t, base+"/api/auth/backchannel-logout", url.Values{"logout_token": {text}}.Encode(), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
	}
	session := func(subject, sid, jti string) string {
		t.Helper()
		token, err := mint.V4(standardapp.Secret, map[string]any{"sub": subject, "sid": sid, "jti": jti, "email": subject + "@example.com", "iat": time.Now().Add(-time.Minute).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		return standardapp.CookieName + "=" + token
	}
	first, second, third, other := session("live", "s1", "j1"), session("live", "s2", "j2"), session("live", "s3", "j3"), session("other", "s4", "j4")
	must := func(what string, wants map[string]int) {
		t.Helper()
		for cookie, want := range wants {
			if status := caddytest.Ask(t, base+"/admin", cookie); status != want {
				t.Errorf("%s: status %d, want %d", what, status, want)
			}
		}
	}
	must("at first", map[string]int{first: 200, second: 200, third: 200, other: 200})
	eventually.Holds(t, "the provider's keys are known", func() bool {
		return logout("a"+fmt.Sprint(time.Now().UnixNano()), map[string]any{"sid": "s1", "sub": "ignored"}, key) == http.StatusOK
	})
	must("a session ended", map[string]int{first: 401, second: 200, third: 200, other: 200})
	for _, list := range provision.Lists() {
		if err := list.Revoke(t.Context(), revocation.Revocation{Token: "j2", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	must("a token ended", map[string]int{second: 401, third: 200, other: 200})
	if status := logout("b", map[string]any{"sub": "live"}, key); status != http.StatusOK {
		t.Errorf("the user's logout: status %d", status)
	}
	must("a user ended", map[string]int{third: 401, other: 200})

	forged, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 { // with a key that the provider does not have, at no fetch each
		if status := logout("c", map[string]any{"sub": "other"}, forged); status != http.StatusBadRequest {
			t.Fatalf("forged: status %d", status)
		}
	}
	if status := logout("b", map[string]any{"sub": "other"}, key); status != http.StatusBadRequest {
		t.Errorf("a jti that was used: status %d", status)
	}
	must("nobody else", map[string]int{other: 200})
	if n := fetched.Load(); n > 3 {
		t.Errorf("the keys were fetched %d times", n)
	}
	for _, r := range app.Seen() {
		if r.URL.Path != "/admin" {
			t.Errorf("the app was asked for %s", r.URL.Path)
		}
	}
}

// TestAnIdentityProviderEndsOnlyTheSessionsOfItsOwnAccounts logs people out by their
// accounts at a provider, whose names of them are also the ids of others.
func TestAnIdentityProviderEndsOnlyTheSessionsOfItsOwnAccounts(t *testing.T) {
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `insert into "User" values ('ada'), ('eve')`,
		`create table "Account" ("userId" text not null references "User", provider text not null, "providerAccountId" text not null, primary key (provider, "providerAccountId"))`,
		`insert into "Account" values ('ada', 'keycloak', 'eve'), ('eve', 'google', 'live'), ('live', 'github', 'ada')`)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(keys, set, 0o600); err != nil {
		t.Fatal(err)
	}
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session /admin* {", "	backchannel_logout {", "		issuer https://id.example", "		audience app", "		jwks "+keys, "		algorithms ES256", "		provider keycloak", "		ends user", "	}", "}", app.Proxy()))
	messages := 0
	logout := func(sub string) int {
		t.Helper()
		messages++
		token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
			"iss": "https://id.example", "aud": "app", "sub": sub, "sid": "s1", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "jti": fmt.Sprint(messages),
			"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
		})
		token.Header["kid"] = "k1"
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return post(t, base+"/api/auth/backchannel-logout", url.Values{"logout_token": {text}}.Encode(), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
	}
	sessions := make(map[string]string)
	for _, subject := range []string{"ada", "eve", "live"} {
		sessions[subject] = standardapp.Session(t, subject)
	}
	must := func(what string, ended ...string) {
		t.Helper()
		for subject, cookie := range sessions {
			want := http.StatusOK
			if slices.Contains(ended, subject) {
				want = http.StatusUnauthorized
			}
			if status := caddytest.Ask(t, base+"/admin", cookie); status != want {
				t.Errorf("%s: %s: status %d, want %d", what, subject, status, want)
			}
		}
	}
	must("at first")
	for _, sub := range []string{"live", "ada", "nobody"} { // what other providers call somebody, and nobody
		if status := logout(sub); status != http.StatusOK {
			t.Errorf("%s: status %d", sub, status)
		}
	}
	must("what the provider calls nobody")
	standardapp.Execute(t, database, `alter table "Account" rename to links`, `create table copy as select * from links`)
	if status := logout("eve"); status != http.StatusServiceUnavailable {
		t.Errorf("while nobody knows whose it is: status %d", status)
	}
	must("while nobody knows whose it is")
	standardapp.Execute(t, database, `drop table copy`)
	if status := logout("eve"); status != http.StatusOK {
		t.Errorf("the account of the provider: status %d", status)
	}
	must("the account of the provider", "ada")
}
