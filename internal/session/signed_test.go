package session

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

// keyPair is a key that signs, and the one that verifies.
type keyPair struct {
	private crypto.Signer
	methods []jwt.SigningMethod
}

func keyPairs(t testing.TB) map[string]keyPair {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pairs := map[string]keyPair{"RSA": {rsaKey, []jwt.SigningMethod{
		jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512,
		jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512,
	}}}
	for name, c := range map[string]struct {
		curve  elliptic.Curve
		method jwt.SigningMethod
	}{
		"P-256": {elliptic.P256(), jwt.SigningMethodES256},
		"P-384": {elliptic.P384(), jwt.SigningMethodES384},
		"P-521": {elliptic.P521(), jwt.SigningMethodES512},
	} {
		key, err := ecdsa.GenerateKey(c.curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		pairs[name] = keyPair{key, []jwt.SigningMethod{c.method}}
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pairs["Ed25519"] = keyPair{edKey, []jwt.SigningMethod{jwt.SigningMethodEdDSA}}
	return pairs
}

func sign(t testing.TB, method jwt.SigningMethod, key any, kid string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "ada", "iat": time.Now().Unix()})
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func pemOf(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// readToken reads a token from the usual cookie.
func readToken(rd *Reader, token string) *Session {
	return read(rd, http.Header{"Cookie": {v4Name + "=" + token}})
}

func TestSignedTokensAreVerifiedByTheirKeysAlone(t *testing.T) {
	pairs := keyPairs(t)
	for name, pair := range pairs {
		keys, err := ParsePublicKeys(pemOf(t, pair.private.Public()))
		if err != nil {
			t.Fatal(err)
		}
		rd := newReader(t, Config{PublicKeys: keys})
		for _, method := range pair.methods {
			if s := readToken(rd, sign(t, method, pair.private, "")); len(s.Tokens) != 1 || string(s.Tokens[0].Claims.Subject) != "ada" {
				t.Errorf("%s by %s: %s", method.Alg(), name, s.Failure)
			}
			if s := readToken(rd, sign(t, method, pair.private, "any")); len(s.Tokens) != 1 {
				t.Errorf("%s by %s with a kid: %s", method.Alg(), name, s.Failure)
			}
		}
		for other, wrong := range pairs {
			if other == name {
				continue
			}
			for _, method := range wrong.methods {
				if s := readToken(rd, sign(t, method, wrong.private, "")); len(s.Tokens) != 0 {
					t.Errorf("%s by %s was verified by %s", method.Alg(), other, name)
				}
			}
		}
		// HS256 with the public key as the secret, in every form of it.
		public := pemOf(t, pair.private.Public())
		for _, secret := range [][]byte{public, []byte(strings.TrimSpace(string(public)))} {
			if s := readToken(rd, sign(t, jwt.SigningMethodHS256, secret, "")); len(s.Tokens) != 0 {
				t.Errorf("HS256 by the public key of %s was verified", name)
			}
		}
		if s := readToken(rd, sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "")); len(s.Tokens) != 0 {
			t.Error("none was verified")
		}
	}
	bySecret := newReader(t, Config{})
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
		if s := readToken(bySecret, sign(t, method, []byte(secret), "")); len(s.Tokens) != 1 {
			t.Errorf("%s: %s", method.Alg(), s.Failure)
		}
	}
	if s := readToken(bySecret, sign(t, jwt.SigningMethodRS256, pairs["RSA"].private, "")); len(s.Tokens) != 0 {
		t.Error("RS256 was verified without a public key")
	}
	if s := readToken(bySecret, sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "")); len(s.Tokens) != 0 {
		t.Error("none was verified")
	}
}

// forge signs a token with a header as it is given.
func forge(header string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"ada"}`))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestHeadersThatAreRefusedUnread(t *testing.T) {
	rd := newReader(t, Config{})
	if s := readToken(rd, forge(`{"alg":"HS256","typ":"JWT","kid":"x"}`)); len(s.Tokens) != 1 {
		t.Fatalf("a good header: %s", s.Failure)
	}
	for _, header := range []string{
		`{"alg":"HS256","crit":["exp"]}`, `{"alg":"HS256","zip":"DEF"}`, `{"alg":"HS256","jku":"https://evil.example"}`,
		`{"alg":"HS256","jwk":{}}`, `{"alg":"HS256","x5u":"https://evil.example"}`, `{"alg":"HS256","x5c":["x"]}`, `{"alg":"HS256","b64":false}`,
		`{"alg":"HS256","alg":"none"}`, `{"alg":["HS256"]}`, `{"alg":null}`, `{"alg":"hs256"}`, `{}`, `[]`, `"HS256"`, `null`, ``, `{"alg":"HS256"`,
		`{"alg":"HS256"} {}`, `{"alg":"HS256","typ":"JWE"}`, `{"alg":"HS256","cty":"at+jwt"}`, `{"alg":"HS256","p2c":1}`,
		`{"alg":"HS256","kid":"` + strings.Repeat("x", 2000) + `"}`, strings.Repeat(`{"a":`, 200), `{"alg":"HS256","kid":{}}`,
	} {
		if s := readToken(rd, forge(header)); len(s.Tokens) != 0 || s.Failure != Undecodable {
			t.Errorf("%.80s was read", header)
		}
	}
	encrypted := v4(t, "ada")
	_, rest, _ := strings.Cut(encrypted, ".")
	for _, header := range []string{
		`{"alg":"dir","enc":"A256GCM","zip":"DEF"}`, `{"alg":"dir","enc":"A256GCM","crit":[]}`, `{"alg":"PBES2-HS256+A128KW","enc":"A256GCM"}`,
		`{"alg":"A256KW","enc":"A256GCM"}`, `{"alg":"dir","enc":"A128GCM"}`, `{"alg":"dir","enc":"A256GCM","kid":""}`, `{"alg":"dir","enc":"A256GCM","kid":"x"}`,
		`{"alg":"dir"}`, `{"enc":"A256GCM"}`, `{"alg":"dir","enc":"A256GCM","epk":{}}`,
	} {
		if s := readToken(rd, base64.RawURLEncoding.EncodeToString([]byte(header))+"."+rest); len(s.Tokens) != 0 || s.Failure != Undecodable {
			t.Errorf("%s was read", header)
		}
	}
}

func TestPayloadsThatAreNestedTooDeep(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n) }
	for n, want := range map[int]bool{1: true, maxDepth: true, maxDepth + 1: false, 100000: false} {
		payload := deep(n)
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(text))
		rd := newReader(t, Config{MaxTokenBytes: 1 << 20})
		if s := readToken(rd, text+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil))); (len(s.Tokens) == 1) != want {
			t.Errorf("depth %d: %s", n, s.Failure)
		}
	}
	if tooDeep([]byte(`{"a":"{{{{{{{{{{{{{{{{{{{{{{{{[[[[\"{{{{{{{{{{{{{"}`)) {
		t.Error("braces in a text count")
	}
}

func TestKeyFiles(t *testing.T) {
	pairs := keyPairs(t)
	private, err := x509.MarshalPKCS8PrivateKey(pairs["P-256"].private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(pairs["RSA"].private.Public().(*rsa.PublicKey))})
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		keys int
		says string
	}{
		"one":          {pemOf(t, pairs["RSA"].private.Public()), 1, ""},
		"two":          {append(pemOf(t, pairs["RSA"].private.Public()), pemOf(t, pairs["Ed25519"].private.Public())...), 2, ""},
		"PKCS #1":      {pkcs1, 1, ""},
		"a private":    {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0, "openssl pkey"},
		"a secret":     {[]byte("hunter2"), 0, "option secret"},
		"an odd curve": {pemOf(t, p224.Public()), 0, "P-256"},
		"a request":    {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{1}}), 0, "CERTIFICATE REQUEST"},
		"damaged":      {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}), 0, "asn1"},
	} {
		keys, err := ParsePublicKeys(c.file)
		if len(keys) != c.keys || (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}

// keySet is a JSON Web Key Set of some public keys.
func keySet(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestKeySets(t *testing.T) {
	pairs := keyPairs(t)
	one := jose.JSONWebKey{Key: pairs["RSA"].private.Public(), KeyID: "one"}
	two := jose.JSONWebKey{Key: pairs["P-256"].private.Public(), KeyID: "two", Algorithm: "ES256", Use: "sig"}
	pinned := jose.JSONWebKey{Key: pairs["RSA"].private.Public(), KeyID: "pinned", Algorithm: "PS256"}
	forEncryption := jose.JSONWebKey{Key: pairs["P-384"].private.Public(), KeyID: "enc", Use: "enc"}
	symmetric := jose.JSONWebKey{Key: []byte(secret), KeyID: "oct", Algorithm: "HS256"}
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
	rd := newReader(t, Config{JWKS: jwks})
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
		if s := readToken(rd, c.token); (len(s.Tokens) == 1) != c.want {
			t.Errorf("%s: %d tokens, %s", name, len(s.Tokens), s.Failure)
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
	jwks, err := OpenJWKS(server.URL+"/jwks.json?token=hunter2", func(err error) {
		failures.Add(1)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the URL's secret is in the error: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	rd := newReader(t, Config{JWKS: jwks})
	first := sign(t, jwt.SigningMethodES256, pairs["P-256"].private, "first")
	if s := readToken(rd, first); s.Failure != KeysUnavailable {
		t.Errorf("before the set is there: %q", s.Failure)
	}
	eventually.Holds(t, "a fetch fails", func() bool { return failures.Load() > 0 })
	body.Store(keySet(t, jose.JSONWebKey{Key: pairs["P-256"].private.Public(), KeyID: "first"}))
	eventually.Holds(t, "the set is there", func() bool { return len(readToken(rd, first).Tokens) == 1 })

	// The keys are rotated: an unknown kid makes the set be fetched once more,
	// and a flood of them does not.
	body.Store(keySet(t, jose.JSONWebKey{Key: pairs["P-384"].private.Public(), KeyID: "second"}))
	second := sign(t, jwt.SigningMethodES384, pairs["P-384"].private, "second")
	eventually.Holds(t, "the new key is there", func() bool { return len(readToken(rd, second).Tokens) == 1 })
	before := fetches.Load()
	for i := range 1000 {
		if s := readToken(rd, sign(t, jwt.SigningMethodES384, pairs["P-384"].private, fmt.Sprint("unknown", i))); s.Failure != Undecodable {
			t.Errorf("an unknown kid: %q", s.Failure)
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
