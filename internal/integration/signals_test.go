package integration

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestSignalsEndSessionsAndRefuseUsers has a transmitter disable and enable a user, and a
// script end the sessions of another.
func TestSignalsEndSessionsAndRefuseUsers(t *testing.T) {
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `insert into "User" values ('ada'), ('eve')`,
		`create table "Account" ("userId" text not null references "User", provider text not null, "providerAccountId" text not null, primary key (provider, "providerAccountId"))`,
		`insert into "Account" values ('ada', 'keycloak', 'eve'), ('eve', 'google', 'ada')`)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "RS256"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(keys, set, 0o600); err != nil {
		t.Fatal(err)
	}
	const own = "0123456789abcdef0123456789abcdef"
	app := caddytest.NewApp(t)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, o.Config("stale_session /admin* {",
		"	global_token_revocation {", "		secret "+own, "	}",
		"	shared_signals {", "		issuer https://id.example", "		audience app", "		jwks "+keys, "		provider keycloak", "	}",
		"}", app.Proxy()))
	push := func(id, event string, at time.Time) int {
		t.Helper()
		token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
			"iss": "https://id.example", "aud": "app", "jti": id, "iat": at.Unix(),
			"sub_id": map[string]any{"format": "iss_sub", "iss": "https://id.example", "sub": "eve"},
			"events": map[string]any{"https://schemas.openid.net/secevent/risc/event-type/" + event: map[string]any{}},
		})
		token.Header["kid"], token.Header["typ"] = "k1", "secevent+jwt"
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return post(t, base+"/api/auth/shared-signals", text, http.Header{"Content-Type": {"application/secevent+jwt"}})
	}
	session := func(subject string, issued time.Duration) string {
		t.Helper()
		token, err := mint.V4(standardapp.Secret, map[string]any{"sub": subject, "iat": time.Now().Add(issued).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		return standardapp.CookieName + "=" + token
	}
	old, other, live := session("ada", -time.Minute), session("eve", -time.Minute), session("live", -time.Minute)
	must := func(what, cookie string, want int) {
		t.Helper()
		if status := caddytest.Ask(t, base+"/admin", cookie); status != want {
			t.Errorf("%s: status %d, want %d", what, status, want)
		}
	}
	must("at first", old, http.StatusOK)
	began := time.Now().Add(-30 * time.Second)
	if status := push("1", "account-disabled", began); status != http.StatusAccepted {
		t.Fatalf("disabled: status %d", status)
	}
	must("disabled", old, http.StatusUnauthorized)
	must("disabled, who signs in", session("ada", 10*time.Second), http.StatusUnauthorized)
	must("who has that id in the app", other, http.StatusOK)
	if status := push("2", "account-enabled", began.Add(10*time.Second)); status != http.StatusAccepted {
		t.Fatalf("enabled: status %d", status)
	}
	if status := push("1", "account-disabled", began); status != http.StatusAccepted {
		t.Errorf("delivered again: status %d", status)
	}
	must("enabled, a session that has ended", old, http.StatusUnauthorized)
	must("enabled, who signs in", session("ada", 10*time.Second), http.StatusOK)

	revoke := func(secret, body string) int {
		t.Helper()
		return post(t, base+"/api/auth/global-token-revocation", body, http.Header{"Authorization": {"Bearer " + secret}, "Content-Type": {"application/json"}})
	}
	for body, want := range map[string]int{
		`{"sub_id":{"format":"opaque","id":"nobody"}}`: http.StatusNotFound,
		`{"sub_id":{"format":"opaque","id":"live"}}`:   http.StatusNoContent,
	} {
		if status := revoke(own, body); status != want {
			t.Errorf("%s: status %d, want %d", body, status, want)
		}
	}
	if status := revoke("another", `{"sub_id":{"format":"opaque","id":"eve"}}`); status != http.StatusUnauthorized {
		t.Errorf("without the secret: status %d", status)
	}
	must("revoked by a script", live, http.StatusUnauthorized)
	must("somebody else", other, http.StatusOK)
	for _, r := range app.Seen() {
		if r.URL.Path != "/admin" {
			t.Errorf("the app was asked for %s", r.URL.Path)
		}
	}
}
