package session

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// encrypted opens the encrypted tokens of next-auth 4.24 (jwt/index.ts) and of
// @auth/core 0.18 to 0.41 (jwt.ts): JWE in compact form, "dir".
type encrypted struct {
	v4 []contentKey            // by secret
	v5 map[string][]contentKey // by cookie name: two for each secret
	// usual are the keys for the headers that the libraries themselves write,
	// so that these need not be read.
	usual map[place][]aead
}

// place is where a header stands: under the base name of a cookie, as a segment
// of its token.
type place struct{ base, segment string }

// contentKey is a key that encrypts the content of tokens.
type contentKey struct {
	aead
	bytes []byte
	enc   string
	// id is the key's thumbprint (RFC 7638), which Auth.js v5 puts into kid.
	// NextAuth v4 has none.
	id string
}

// newEncrypted derives all keys.
func newEncrypted(secrets, cookieNames []string) (encrypted, error) {
	e := encrypted{v5: make(map[string][]contentKey), usual: make(map[place][]aead)}
	for _, secret := range secrets {
		key, err := derive(secret, "", "NextAuth.js Generated Encryption Key", a256GCM, bytesGCM)
		if err != nil {
			return encrypted{}, err
		}
		key.id = ""
		e.v4 = append(e.v4, key)
		for _, name := range cookieNames {
			info := "Auth.js Generated Encryption Key (" + name + ")"
			cbc, err := derive(secret, name, info, a256CBCHS512, bytesCBC)
			if err != nil {
				return encrypted{}, err
			}
			gcm, err := derive(secret, name, info, a256GCM, bytesGCM)
			if err != nil {
				return encrypted{}, err
			}
			e.v5[name] = append(e.v5[name], cbc, gcm)
		}
	}
	return e, e.expect(cookieNames)
}

// derive makes a key from a secret by HKDF-SHA256 (RFC 5869), and its
// thumbprint by the hash of the key's length.
func derive(secret, salt, info, enc string, length int) (contentKey, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), []byte(salt), info, length)
	if err != nil {
		return contentKey{}, fmt.Errorf("deriving a key from the secret: %w", err)
	}
	jwk := []byte(`{"k":"` + base64.RawURLEncoding.EncodeToString(key) + `","kty":"oct"}`)
	var thumbprint []byte
	if length == bytesCBC {
		sum := sha512.Sum512(jwk)
		thumbprint = sum[:]
	} else {
		sum := sha256.Sum256(jwk)
		thumbprint = sum[:]
	}
	opens, err := newAEAD(enc, key)
	return contentKey{aead: opens, bytes: key, enc: enc, id: base64.RawURLEncoding.EncodeToString(thumbprint)}, err
}

// expect finds the keys for the headers that the libraries write.
func (e encrypted) expect(cookieNames []string) error {
	for _, base := range cookieNames {
		for _, keys := range [][]contentKey{e.v4, e.v5[base]} {
			for _, key := range keys {
				text, err := json.Marshal(struct {
					Algorithm string `json:"alg"`
					Content   string `json:"enc"`
					Key       string `json:"kid,omitempty"`
				}{direct, key.enc, key.id})
				if err != nil {
					return err
				}
				segment := base64.RawURLEncoding.EncodeToString(text)
				e.usual[place{base, segment}] = e.read(base, segment)
			}
		}
	}
	return nil
}

// open decrypts a token that stands under the base name of a cookie.
//
// A token that names its key is opened by that one only. One that does not is
// tried with every secret, where Auth.js tries the first alone.
func (e encrypted) open(base, text string) (map[string]any, Failure) {
	payload, ok := e.decrypt(base, text)
	if !ok {
		return nil, Undecodable
	}
	return object(payload)
}

// decrypt returns the payload of a token, if one of the keys opens it.
func (e encrypted) decrypt(base, text string) ([]byte, bool) {
	var parts [5]string
	for i := range parts {
		var more bool
		if parts[i], text, more = strings.Cut(text, "."); more == (i == len(parts)-1) {
			return nil, false
		}
	}
	if parts[1] != "" {
		return nil, false
	}
	keys, known := e.usual[place{base, parts[0]}]
	if !known {
		keys = e.read(base, parts[0])
	}
	if len(keys) == 0 {
		return nil, false
	}
	nonce, ok := appendBase64(make([]byte, 0, cbcNonceBytes), parts[2])
	if !ok {
		return nil, false
	}
	// Where the content ends and the tag begins does not count: Web Crypto, with
	// which the libraries decrypt at the edge, takes them in one piece.
	sealed, ok := appendBase64(make([]byte, 0, len(parts[3])+len(parts[4])), parts[3])
	if !ok {
		return nil, false
	}
	if sealed, ok = appendBase64(sealed, parts[4]); !ok {
		return nil, false
	}
	for _, key := range keys {
		if len(nonce) != key.NonceSize() {
			continue
		}
		if payload, err := key.Open(nil, nonce, sealed, []byte(parts[0])); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// direct is how tokens are encrypted: with the shared key itself (RFC 7518,
// section 4.5).
const direct = "dir"

// read returns the keys that a token can be encrypted with whose header is a
// segment.
func (e encrypted) read(base, segment string) []aead {
	header, err := readHeader(segment, "alg", "enc", "kid", "typ", "cty")
	if err != nil || header["alg"] != direct {
		return nil
	}
	var keys []aead
	id, named := header["kid"]
	for _, candidates := range [][]contentKey{e.v4, e.v5[base]} {
		for _, key := range candidates {
			if key.enc == header["enc"] && (!named || key.id == id && id != "") {
				keys = append(keys, key.aead)
			}
		}
	}
	return keys
}
