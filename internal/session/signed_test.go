package session

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

func TestSignedTokensAreReadWithTheKeysOfTheConfig(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(gojose.JSONWebKeySet{Keys: []gojose.JSONWebKey{{Key: private.Public(), KeyID: "one"}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(location string) *jose.JWKS {
		t.Helper()
		keys, err := jose.OpenJWKS(location, func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { keys.Close() })
		return keys
	}
	sign := func(method jwt.SigningMethod, key any) string {
		t.Helper()
		token, err := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "ada"}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	bySecret, byKey := sign(jwt.SigningMethodHS256, []byte(secret)), sign(jwt.SigningMethodES256, private)
	for name, c := range map[string]struct {
		config  Config
		token   string
		failure Failure
	}{
		"a secret":                      {Config{Secrets: []string{secret}}, bySecret, ""},
		"another secret":                {Config{Secrets: []string{"another"}}, bySecret, Undecodable},
		"a secret, and a private key":   {Config{Secrets: []string{secret}}, byKey, Undecodable},
		"a public key":                  {Config{PublicKeys: []crypto.PublicKey{private.Public()}}, byKey, ""},
		"a public key, and a secret":    {Config{PublicKeys: []crypto.PublicKey{private.Public()}}, bySecret, Undecodable},
		"a key set":                     {Config{JWKS: open(file)}, byKey, ""},
		"a key set that is not fetched": {Config{JWKS: open("http://127.0.0.1:1/jwks.json")}, byKey, KeysUnavailable},
		"the same, and a secret":        {Config{JWKS: open("http://127.0.0.1:1/jwks.json"), Secrets: []string{secret}}, bySecret, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := read(newReader(t, c.config), http.Header{"Cookie": {v4Name + "=" + c.token}})
			if s.Failure != c.failure || (len(s.Tokens) == 1 && string(s.Tokens[0].Claims.Subject) == "ada") != (c.failure == "") {
				t.Errorf("failure %q, want %q; tokens %v", s.Failure, c.failure, s.Tokens)
			}
		})
	}
}
