// Package auth0 decrypts the sessions of @auth0/nextjs-auth0 4, and those of version 3
// that it still reads.
package auth0

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// tolerance is how long version 4 reads a session that has expired.
const tolerance = 15 * time.Second

const (
	parts          = 5
	maxHeaderBytes = 1366 // as for other tokens
	keyBytes       = 32
	nonceBytes     = 12
)

// headerFields are the fields that a header may have: iat, uat and exp are those of
// version 3.
var headerFields = []string{"alg", "enc", "iat", "uat", "exp"}

// Decrypter decrypts sessions. It is safe for concurrent use.
type Decrypter struct{ keys []cipher.AEAD }

// New returns a decrypter of the sessions that are encrypted with one of the secrets. It
// is an error if one is empty.
func New(secrets []string) (*Decrypter, error) {
	d := new(Decrypter)
	for _, secret := range secrets {
		if secret == "" {
			return nil, errors.New("a secret of the sessions of Auth0 is empty")
		}
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, "JWE CEK", keyBytes)
		if err != nil {
			return nil, fmt.Errorf("deriving a key from the secret: %w", err)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		d.keys = append(d.keys, aead)
	}
	return d, nil
}

// IsSession reports whether a text has the form of a session.
func IsSession(text string) bool {
	_, ok := parse(text)
	return ok
}

// parse splits a token. It is not ok if its header is not that of a session.
func parse(text string) (segments []string, ok bool) {
	if strings.Count(text, ".") != parts-1 {
		return nil, false
	}
	segments = strings.Split(text, ".")
	return segments, segments[1] == "" && isHeader(segments[0])
}

// usual is the header that version 4 writes: {"enc":"A256GCM","alg":"dir"}.
const usual = "eyJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiZGlyIn0"

func isHeader(segment string) bool {
	if segment == usual || len(segment) > maxHeaderBytes {
		return segment == usual
	}
	text, ok := jose.DecodeBase64(segment)
	if !ok {
		return false
	}
	header, err := jose.ParsePayload(text)
	if err != nil || header["alg"] != "dir" || header["enc"] != "A256GCM" {
		return false
	}
	for name := range header {
		if !slices.Contains(headerFields, name) {
			return false
		}
	}
	return true
}

// Decrypt returns what a session holds, and when version 4 no longer reads it: the zero
// time for never. The error is jose.ErrInvalid.
func (d *Decrypter) Decrypt(text string) (payload map[string]any, expires time.Time, err error) {
	segments, ok := parse(text)
	if !ok {
		return nil, time.Time{}, jose.ErrInvalid
	}
	nonce, ok1 := jose.DecodeBase64(segments[2])
	ciphertext, ok2 := jose.DecodeBase64(segments[3])
	tag, ok3 := jose.DecodeBase64(segments[4])
	if !ok1 || !ok2 || !ok3 || len(nonce) != nonceBytes {
		return nil, time.Time{}, jose.ErrInvalid
	}
	ciphertext = append(ciphertext, tag...) // Web Crypto takes both in one piece
	for _, key := range d.keys {
		content, err := key.Open(nil, nonce, ciphertext, []byte(segments[0]))
		if err != nil {
			continue
		}
		if payload, err = jose.ParsePayload(content); err != nil {
			return nil, time.Time{}, err
		}
		expires, err = end(payload)
		return payload, expires, err
	}
	return nil, time.Time{}, jose.ErrInvalid
}

// canonical returns a session as it is written, without what is ignored.
func canonical(text string) string { return new(jose.Decrypter).Canonical(text) }

// end returns when version 4 no longer reads a session: never, if it is one of version
// 3, whose times are in the header, at which version 4 does not look.
func end(payload map[string]any) (time.Time, error) {
	exp, present := payload["exp"]
	if !present {
		return time.Time{}, nil
	}
	number, isNumber := exp.(json.Number)
	if !isNumber {
		return time.Time{}, jose.ErrInvalid
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > 1e11 {
		return time.Time{}, jose.ErrInvalid
	}
	return time.UnixMilli(int64(seconds * 1000)).Add(tolerance), nil
}
