package jose

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

// keySet is a JSON Web Key Set of some public keys.
func keySet(t testing.TB, keys ...gojose.JSONWebKey) []byte {
	t.Helper()
	text, err := json.Marshal(gojose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestKeySets(t *testing.T) {
	pairs := keyPairs(t)
	one := gojose.JSONWebKey{Key: pairs["RSA"].private.Public(), KeyID: "one"}
	two := gojose.JSONWebKey{Key: pairs["P-256"].private.Public(), KeyID: "two", Algorithm: "ES256", Use: "sig"}
	pinned := gojose.JSONWebKey{Key: pairs["RSA"].private.Public(), KeyID: "pinned", Algorithm: "PS256"}
	forEncryption := gojose.JSONWebKey{Key: pairs["P-384"].private.Public(), KeyID: "enc", Use: "enc"}
	symmetric := gojose.JSONWebKey{Key: []byte(secret), KeyID: "oct", Algorithm: "HS256"}
	file := filepath.Join(t.TempDir(), "jwks.json")
	set := keySet(t, one, two, pinned, forEncryption, symmetric)
	set = []byte(strings.Replace(string(set), `{"keys":[`, `{"keys":[{"kty":"XYZ","kid":"odd"},{"kty":5},`, 1))
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	jwks, err := OpenJWKS(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer jwks.Close()
	v := newVerifier(t, VerifierConfig{JWKS: jwks})
	for name, c := range map[string]struct {
		token string
		want  bool
	}{
		"by its kid":            {sign(t, jwt.SigningMethodRS256, pairs["RSA"].private, "one"), true},
		"by another's":          {sign(t, jwt.SigningMethodRS256, pairs["RSA"].private, "two"), false},
		"by nobody's":           {sign(t, jwt.SigningMethodRS256, pairs["RSA"].private, "three"), false},
		"without a kid":         {sign(t, jwt.SigningMethodES256, pairs["P-256"].private, ""), true},
		"its algorithm":         {sign(t, jwt.SigningMethodPS256, pairs["RSA"].private, "pinned"), true},
		"not its algorithm":     {sign(t, jwt.SigningMethodRS256, pairs["RSA"].private, "pinned"), false},
		"a key for encryption":  {sign(t, jwt.SigningMethodES384, pairs["P-384"].private, "enc"), false},
		"a symmetric key of it": {sign(t, jwt.SigningMethodHS256, []byte(secret), "oct"), false},
	} {
		if _, err := v.Verify(c.token); (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{"no JSON": "x", "no keys": `{"keys":[]}`, "symmetric": string(keySet(t, symmetric)), "deep": strings.Repeat("[", 1000)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenJWKS(file, nil); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestAKeySetAtAURL(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	pairs := keyPairs(t)
	var body atomic.Value
	var fetches, failures atomic.Int64
	body.Store([]byte(nil))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		if text := body.Load().([]byte); text != nil {
			_, _ = w.Write(text)
			return
		}
		http.Error(w, "not yet", http.StatusServiceUnavailable)
	}))
	jwks, err := OpenJWKS(strings.Replace(server.URL, "://", "://user:hunter2@", 1)+"/jwks.json?token=hunter2", func(err error) {
		failures.Add(1)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the URL's secret is in the error: %v", err)
		}
		if !strings.HasPrefix(err.Error(), "of 127.0.0.1:") || !strings.HasSuffix(err.Error(), ": status 503") {
			t.Errorf("the error does not say of which set it is, and what is wrong: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, VerifierConfig{JWKS: jwks})
	verifies := func(token string) bool {
		_, err := v.Verify(token)
		return err == nil
	}
	first := sign(t, jwt.SigningMethodES256, pairs["P-256"].private, "first")
	if _, err := v.Verify(first); !errors.Is(err, ErrKeysUnavailable) {
		t.Errorf("before the set is fetched: %v", err)
	}
	eventually.Holds(t, "a fetch fails", func() bool { return failures.Load() > 0 })
	body.Store(keySet(t, gojose.JSONWebKey{Key: pairs["P-256"].private.Public(), KeyID: "first"}))
	eventually.Holds(t, "the set is there", func() bool { return verifies(first) })

	// The keys are rotated: an unknown kid triggers one fetch, a flood of them no
	// more.
	body.Store(keySet(t, gojose.JSONWebKey{Key: pairs["P-384"].private.Public(), KeyID: "second"}))
	second := sign(t, jwt.SigningMethodES384, pairs["P-384"].private, "second")
	eventually.Holds(t, "the new key is there", func() bool { return verifies(second) })
	before := fetches.Load()
	for i := range 1000 {
		if _, err := v.Verify(sign(t, jwt.SigningMethodES384, pairs["P-384"].private, fmt.Sprint("unknown", i))); !errors.Is(err, ErrInvalid) {
			t.Errorf("an unknown kid: %v", err)
		}
	}
	if extra := fetches.Load() - before; extra > 1 {
		t.Errorf("%d fetches for 1000 unknown kids", extra)
	}
	if err := jwks.Close(); err != nil {
		t.Error(err)
	}
	if err := jwks.Close(); err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
	server.Close()
	goleak.VerifyNone(t, leaks)
	for _, location := range []string{"https://", "ftp://h/x", "://", "http:///x"} {
		if _, err := OpenJWKS(location, nil); err == nil {
			t.Errorf("%q is taken", location)
		}
	}
}

func TestAKeySetOfSecretsSaysWhatToDo(t *testing.T) {
	t.Parallel()
	_, err := parseKeySet([]byte(`{"keys":[{"kty":"oct","k":"aHVudGVyMg","alg":"HS256"}]}`))
	if err == nil || !strings.Contains(err.Error(), "`secret {file.PATH}`") || strings.Contains(err.Error(), "aHVudGVyMg") {
		t.Errorf("%v", err)
	}
}
