package jose

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// direct is the alg of tokens that are encrypted with the shared key itself
// (RFC 7518, section 4.5).
const direct = "dir"

var encryptedFields = []string{"alg", "enc", "kid", "typ", "cty"}

// AnySalt stands for all salts that were given to NewDecrypter.
const AnySalt = ""

// Decrypter decrypts the session tokens of next-auth 4.24 (jwt/index.ts) and
// @auth/core 0.18 to 0.41 (jwt.ts). It is safe for concurrent use.
type Decrypter struct {
	v4 []contentKey            // those that depend on no salt
	v5 map[string][]contentKey // by salt; two per secret

	// usual are the keys for the headers that the libraries write, so that
	// those need not be parsed.
	usual map[usualHeader][]aead
}

type usualHeader struct{ salt, segment string }

// contentKey encrypts the content of tokens.
type contentKey struct {
	aead
	bytes []byte
	enc   string
	id    string // its thumbprint (RFC 7638), which Auth.js v5 puts into kid; empty for NextAuth v4
}

// NewDecrypter derives the keys of NextAuth v4 from each secret, and those of
// Auth.js v5 from each secret and salt. Auth.js salts the key with the name of
// the cookie.
func NewDecrypter(secrets, salts []string) (*Decrypter, error) {
	d := &Decrypter{v5: make(map[string][]contentKey), usual: make(map[usualHeader][]aead)}
	for _, secret := range secrets {
		key, err := deriveKey(secret, "", "NextAuth.js Generated Encryption Key", a256GCM, gcmKeyBytes)
		if err != nil {
			return nil, err
		}
		key.id = ""
		d.v4 = append(d.v4, key)
		for _, salt := range salts {
			info := "Auth.js Generated Encryption Key (" + salt + ")"
			cbc, err := deriveKey(secret, salt, info, a256CBCHS512, cbcKeyBytes)
			if err != nil {
				return nil, err
			}
			gcm, err := deriveKey(secret, salt, info, a256GCM, gcmKeyBytes)
			if err != nil {
				return nil, err
			}
			d.v5[salt] = append(d.v5[salt], cbc, gcm)
		}
	}
	for _, salt := range salts {
		d.v5[AnySalt] = append(d.v5[AnySalt], d.v5[salt]...)
	}
	for _, salt := range slices.Concat(salts, []string{AnySalt}) {
		if err := d.addUsual(salt); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// NewKeyDecrypter returns a decrypter of tokens that are encrypted with one of the
// keys, by AnySalt: of 32 bytes for A256GCM, or 64 for A256CBC-HS512. A token with a
// kid names its key by the SHA-256 thumbprint (RFC 7638).
func NewKeyDecrypter(keys ...[]byte) (*Decrypter, error) {
	d := &Decrypter{usual: make(map[usualHeader][]aead)}
	for _, key := range keys {
		enc := a256GCM
		if len(key) == cbcKeyBytes {
			enc = a256CBCHS512
		}
		opener, err := newAEAD(enc, key)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(thumbprinted(key))
		d.v4 = append(d.v4, contentKey{aead: opener, bytes: key, enc: enc, id: base64.RawURLEncoding.EncodeToString(sum[:])})
	}
	return d, d.addUsual(AnySalt)
}

// thumbprinted returns what the thumbprint of a key is a hash of.
func thumbprinted(key []byte) []byte {
	return []byte(`{"k":"` + base64.RawURLEncoding.EncodeToString(key) + `","kty":"oct"}`)
}

// deriveKey derives a key by HKDF-SHA256 (RFC 5869). The libraries compute its
// thumbprint with the hash of the key's size.
func deriveKey(secret, salt, info, enc string, size int) (contentKey, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), []byte(salt), info, size)
	if err != nil {
		return contentKey{}, fmt.Errorf("deriving a key from the secret: %w", err)
	}
	jwk := thumbprinted(key)
	var thumbprint []byte
	if size == cbcKeyBytes {
		sum := sha512.Sum512(jwk)
		thumbprint = sum[:]
	} else {
		sum := sha256.Sum256(jwk)
		thumbprint = sum[:]
	}
	opener, err := newAEAD(enc, key)
	return contentKey{aead: opener, bytes: key, enc: enc, id: base64.RawURLEncoding.EncodeToString(thumbprint)}, err
}

// addUsual adds the headers that the libraries write for a salt.
func (d *Decrypter) addUsual(salt string) error {
	for _, keys := range [][]contentKey{d.v4, d.v5[salt]} {
		for _, key := range keys {
			text, err := json.Marshal(struct {
				Algorithm  string `json:"alg"`
				Encryption string `json:"enc"`
				KeyID      string `json:"kid,omitempty"`
			}{direct, key.enc, key.id})
			if err != nil {
				return err
			}
			segment := base64.RawURLEncoding.EncodeToString(text)
			d.usual[usualHeader{salt, segment}] = d.keys(salt, segment)
		}
	}
	return nil
}

// Decrypt returns the claims of a token, or ErrInvalid. Numbers are
// json.Number. The salt must be one of those given to NewDecrypter,
// or AnySalt.
//
// A token with a kid is decrypted with that key only. One without is tried with
// every secret, where Auth.js tries only the first.
func (d *Decrypter) Decrypt(salt, token string) (map[string]any, error) {
	payload, ok := d.decrypt(salt, token)
	if !ok {
		return nil, ErrInvalid
	}
	return ParsePayload(payload)
}

func (d *Decrypter) decrypt(salt, token string) ([]byte, bool) {
	parts, ok := encryptedParts(token)
	if !ok {
		return nil, false
	}
	keys := d.keysOf(salt, parts[0])
	if len(keys) == 0 {
		return nil, false
	}
	nonce, ciphertext, ok := decodeParts(parts)
	if !ok {
		return nil, false
	}
	for _, key := range keys {
		if len(nonce) != key.NonceSize() {
			continue
		}
		if payload, err := key.Open(nil, nonce, ciphertext, []byte(parts[0])); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// encryptedParts splits an encrypted token.
func encryptedParts(token string) (parts [5]string, ok bool) {
	for i := range parts {
		var more bool
		if parts[i], token, more = strings.Cut(token, "."); more == (i == len(parts)-1) {
			return parts, false
		}
	}
	return parts, parts[1] == "" // "dir" has no encrypted key
}

// decodeParts decodes what follows the header.
//
// It does not matter where the content ends and the tag begins: Web Crypto, with
// which the libraries decrypt in edge runtimes, takes both in one piece.
func decodeParts(parts [5]string) (nonce, ciphertext []byte, ok bool) {
	if nonce, ok = appendBase64(make([]byte, 0, cbcNonceBytes), parts[2]); !ok {
		return nil, nil, false
	}
	if ciphertext, ok = appendBase64(make([]byte, 0, len(parts[3])+len(parts[4])), parts[3]); !ok {
		return nil, nil, false
	}
	ciphertext, ok = appendBase64(ciphertext, parts[4])
	return nonce, ciphertext, ok
}

// Canonical returns a token that was decrypted as its issuer has written it: without
// what decoding ignores, and with a tag of the usual length.
func (*Decrypter) Canonical(token string) string {
	parts, ok := encryptedParts(token)
	if !ok {
		return token
	}
	nonce, ciphertext, ok := decodeParts(parts)
	tag := gcmTagBytes
	if len(nonce) == cbcNonceBytes {
		tag = cbcTagBytes
	}
	if !ok || len(ciphertext) < tag {
		return token
	}
	encode := base64.RawURLEncoding.EncodeToString
	end := len(ciphertext) - tag
	return parts[0] + ".." + encode(nonce) + "." + encode(ciphertext[:end]) + "." + encode(ciphertext[end:])
}

// CanDecrypt reports whether a token is well-formed, and there is a key for what its
// header says.
func (d *Decrypter) CanDecrypt(salt, token string) bool {
	parts, ok := encryptedParts(token)
	return ok && len(d.keysOf(salt, parts[0])) > 0
}

// keysOf returns the keys that a token may be encrypted with, given its header.
func (d *Decrypter) keysOf(salt, segment string) []aead {
	if keys, usual := d.usual[usualHeader{salt, segment}]; usual {
		return keys
	}
	return d.keys(salt, segment)
}

// keys is keysOf for a header that is not usual.
func (d *Decrypter) keys(salt, segment string) []aead {
	header, err := parseHeader(segment, typeAccess, encryptedFields)
	if err != nil || header["alg"] != direct {
		return nil
	}
	var keys []aead
	id, hasID := header["kid"]
	for _, candidates := range [][]contentKey{d.v4, d.v5[salt]} {
		for _, key := range candidates {
			if key.enc == header["enc"] && (!hasID || key.id == id && id != "") {
				keys = append(keys, key.aead)
			}
		}
	}
	return keys
}

// Header returns the header of an encrypted token, or ErrInvalid when it has
// other fields than those of NextAuth and Auth.js.
func (*Decrypter) Header(token string) (Header, error) {
	segment, _, _ := strings.Cut(token, ".")
	return parseHeader(segment, typeAccess, encryptedFields)
}

// HasKey reports whether a key of Auth.js v5 for a salt has the thumbprint
// that a token names as its kid.
func (d *Decrypter) HasKey(salt, kid string) bool {
	return slices.ContainsFunc(d.v5[salt], func(key contentKey) bool { return key.id == kid })
}
