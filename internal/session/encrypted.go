package session

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// encrypted opens the encrypted tokens of next-auth 4.24 (jwt/index.ts) and of
// @auth/core 0.18 to 0.41 (jwt.ts): JWE in compact form, "dir".
type encrypted struct {
	v4 []contentKey            // by secret
	v5 map[string][]contentKey // by cookie name: two for each secret
}

// contentKey is a key that encrypts the content of tokens.
type contentKey struct {
	bytes []byte
	enc   jose.ContentEncryption
	// id is the key's thumbprint (RFC 7638), which Auth.js v5 puts into kid.
	// NextAuth v4 has none.
	id string
}

// newEncrypted derives all keys.
func newEncrypted(secrets, cookieNames []string) (encrypted, error) {
	e := encrypted{v5: make(map[string][]contentKey)}
	for _, secret := range secrets {
		key, err := derive(secret, "", "NextAuth.js Generated Encryption Key", jose.A256GCM, 32)
		if err != nil {
			return encrypted{}, err
		}
		key.id = ""
		e.v4 = append(e.v4, key)
		for _, name := range cookieNames {
			info := "Auth.js Generated Encryption Key (" + name + ")"
			cbc, err := derive(secret, name, info, jose.A256CBC_HS512, 64)
			if err != nil {
				return encrypted{}, err
			}
			gcm, err := derive(secret, name, info, jose.A256GCM, 32)
			if err != nil {
				return encrypted{}, err
			}
			e.v5[name] = append(e.v5[name], cbc, gcm)
		}
	}
	return e, nil
}

// derive makes a key from a secret by HKDF-SHA256 (RFC 5869), and its
// thumbprint by the hash of the key's length.
func derive(secret, salt, info string, enc jose.ContentEncryption, length int) (contentKey, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), []byte(salt), info, length)
	if err != nil {
		return contentKey{}, fmt.Errorf("deriving a key from the secret: %w", err)
	}
	jwk := []byte(`{"k":"` + base64.RawURLEncoding.EncodeToString(key) + `","kty":"oct"}`)
	var thumbprint []byte
	if length == 64 {
		sum := sha512.Sum512(jwk)
		thumbprint = sum[:]
	} else {
		sum := sha256.Sum256(jwk)
		thumbprint = sum[:]
	}
	return contentKey{bytes: key, enc: enc, id: base64.RawURLEncoding.EncodeToString(thumbprint)}, nil
}

// open decrypts a token that stands under the base name of a cookie.
//
// A token that names its key is opened by that one only. One that does not is
// tried with every secret, where Auth.js tries the first alone.
func (e encrypted) open(base, text string) (map[string]any, Failure) {
	parts := strings.Split(text, ".")
	if len(parts) != 5 || parts[1] != "" {
		return nil, Undecodable
	}
	header, err := readHeader(parts[0], "alg", "enc", "kid", "typ", "cty")
	if err != nil || header["alg"] != string(jose.DIRECT) {
		return nil, Undecodable
	}
	keys := e.keys(base, header)
	if len(keys) == 0 {
		return nil, Undecodable
	}
	for i := 2; i < 5; i++ {
		parts[i] = canonical(parts[i])
	}
	token, err := jose.ParseEncryptedCompact(strings.Join(parts, "."),
		[]jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM, jose.A256CBC_HS512})
	if err != nil {
		return nil, Undecodable
	}
	for _, key := range keys {
		if payload, err := token.Decrypt(key); err == nil {
			return object(payload)
		}
	}
	return nil, Undecodable
}

// keys returns the keys that a token with this header can be encrypted with.
func (e encrypted) keys(base string, header joseHeader) [][]byte {
	var keys [][]byte
	id, named := header["kid"]
	for _, candidates := range [][]contentKey{e.v4, e.v5[base]} {
		for _, key := range candidates {
			if string(key.enc) == header["enc"] && (!named || key.id == id && id != "") {
				keys = append(keys, key.bytes)
			}
		}
	}
	return keys
}
