package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
)

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
