// Package mint issues session tokens like those of NextAuth and Auth.js, for tests,
// the demo and benchmarks.
package mint

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ChunkV4 and ChunkV5 are the lengths of the chunks of NextAuth 4.24 and
// @auth/core 0.41.
const (
	ChunkV4 = 4096 - 163
	ChunkV5 = 4096 - 160
)

// maxAge is the default life of a session.
const maxAge = 30 * 24 * time.Hour

// V4 issues a token of NextAuth v4. Claims overwrite the default iat, exp and jti; a
// nil value omits a claim.
func V4(secret string, claims map[string]any) (string, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "NextAuth.js Generated Encryption Key", 32)
	if err != nil {
		return "", err
	}
	return encrypt(jose.A256GCM, key, "", claims)
}

// V5 issues a token of Auth.js v5 for the session cookie with a name. Claims are as
// for V4.
func V5(secret, cookieName string, claims map[string]any) (string, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), []byte(cookieName), "Auth.js Generated Encryption Key ("+cookieName+")", 64)
	if err != nil {
		return "", err
	}
	thumbprint := sha512.Sum512([]byte(`{"k":"` + base64.RawURLEncoding.EncodeToString(key) + `","kty":"oct"}`))
	return encrypt(jose.A256CBC_HS512, key, base64.RawURLEncoding.EncodeToString(thumbprint[:]), claims)
}

func encrypt(enc jose.ContentEncryption, key []byte, kid string, claims map[string]any) (string, error) {
	now := time.Now()
	all := map[string]any{"iat": now.Unix(), "exp": now.Add(maxAge).Unix(), "jti": rand.Text()}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	payload, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	options := new(jose.EncrypterOptions)
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	encrypter, err := jose.NewEncrypter(enc, jose.Recipient{Algorithm: jose.DIRECT, Key: key}, options)
	if err != nil {
		return "", err
	}
	token, err := encrypter.Encrypt(payload)
	if err != nil {
		return "", err
	}
	return token.CompactSerialize()
}

// Chunk returns the cookies of a token: one with the name, or NAME.0, NAME.1 and so
// on if the token is longer than size, which must be positive.
func Chunk(name, token string, size int) []*http.Cookie {
	if len(token) <= size {
		return []*http.Cookie{{Name: name, Value: token}}
	}
	var cookies []*http.Cookie
	for i := 0; len(token) > 0; i++ {
		n := min(size, len(token))
		cookies = append(cookies, &http.Cookie{Name: name + "." + strconv.Itoa(i), Value: token[:n]})
		token = token[n:]
	}
	return cookies
}
