package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// keyPair is a private key, and the methods it can sign with.
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

func newVerifier(t testing.TB, config VerifierConfig) *Verifier {
	t.Helper()
	v, err := NewVerifier(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSignedTokensAreVerifiedByTheirKeysAlone(t *testing.T) {
	pairs := keyPairs(t)
	for name, pair := range pairs {
		keys, err := ParsePublicKeys(pemOf(t, pair.private.Public()))
		if err != nil {
			t.Fatal(err)
		}
		v := newVerifier(t, VerifierConfig{PublicKeys: keys})
		for _, method := range pair.methods {
			if claims, err := v.Verify(sign(t, method, pair.private, "")); err != nil || claims["sub"] != "ada" {
				t.Errorf("%s by %s: %v, %v", method.Alg(), name, claims, err)
			}
			if _, err := v.Verify(sign(t, method, pair.private, "any")); err != nil {
				t.Errorf("%s by %s with a kid: %v", method.Alg(), name, err)
			}
		}
		for other, wrong := range pairs {
			if other == name {
				continue
			}
			for _, method := range wrong.methods {
				if _, err := v.Verify(sign(t, method, wrong.private, "")); !errors.Is(err, ErrInvalid) {
					t.Errorf("%s by %s was verified by %s", method.Alg(), other, name)
				}
			}
		}
		// Algorithm confusion: HS256 with the public key as the secret.
		public := pemOf(t, pair.private.Public())
		for _, secret := range [][]byte{public, []byte(strings.TrimSpace(string(public)))} {
			if _, err := v.Verify(sign(t, jwt.SigningMethodHS256, secret, "")); !errors.Is(err, ErrInvalid) {
				t.Errorf("HS256 by the public key of %s was verified", name)
			}
		}
		if _, err := v.Verify(sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "")); !errors.Is(err, ErrInvalid) {
			t.Error("none was verified")
		}
	}
	bySecret := newVerifier(t, VerifierConfig{Secrets: []string{secret}})
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
		if claims, err := bySecret.Verify(sign(t, method, []byte(secret), "")); err != nil || claims["sub"] != "ada" {
			t.Errorf("%s: %v, %v", method.Alg(), claims, err)
		}
	}
	if _, err := bySecret.Verify(sign(t, jwt.SigningMethodRS256, pairs["RSA"].private, "")); !errors.Is(err, ErrInvalid) {
		t.Error("RS256 was verified without a public key")
	}
	if _, err := bySecret.Verify(sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "")); !errors.Is(err, ErrInvalid) {
		t.Error("none was verified")
	}
}

// TestASignatureIsReadAsAnyDecoderDoes has equals signs in it, which end it for some
// decoders and not for others.
func TestASignatureIsReadAsAnyDecoderDoes(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, VerifierConfig{Secrets: []string{secret}, PublicKeys: []crypto.PublicKey{key.Public()}})
	for _, token := range []string{sign(t, jwt.SigningMethodHS256, []byte(secret), ""), sign(t, jwt.SigningMethodES256, key, "")} {
		start := strings.LastIndexByte(token, '.') + 1
		text, s := token[:start], token[start:]
		for name, c := range map[string]struct {
			signature string
			valid     bool
		}{
			"as it was written":                {s, true},
			"padded":                           {s + "==", true},
			"with text behind it, by Node":     {s + "=AAAA", true},
			"with a sign in it, by PHP":        {s[:3] + "=" + s[3:], true},
			"with both, by Python":             {s[:2] + "=" + s[2:] + "==AAAA", true},
			"with both, by Ruby":               {s[:4] + "=" + s[4:] + "=AAAA", true},
			"with text behind it, and no sign": {s + "AAAA", false},
			"cut":                              {s[:len(s)-2], false},
			"cut by a sign":                    {s[:len(s)-2] + "=", false},
			"nothing":                          {"", false},
			"signs":                            {"===", false},
		} {
			if _, err := v.Verify(text + c.signature); (err == nil) != c.valid {
				t.Errorf("%s: %v", name, err)
			}
			signed, err := v.Parse(text + c.signature)
			if err != nil {
				t.Fatal(err)
			}
			if canonical := signed.Canonical(); c.valid && canonical != token || !c.valid && canonical != "" {
				t.Errorf("%s: the canonical form is %q", name, canonical)
			}
		}
	}
}
