// Package mint makes session tokens as NextAuth and Auth.js do, for tests, the
// demo and benchmarks. The product reads tokens; it never makes any.
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

// How long the parts of a cookie are that is split: v4.24 and @auth/core 0.41
// leave room for the name and the attributes in 4096 bytes.
const (
	ChunkV4 = 4096 - 163
	ChunkV5 = 4096 - 160
)

// maxAge is the life of a session when the app says nothing else.
const maxAge = 30 * 24 * time.Hour

// V4 makes a token of NextAuth v4.
func V4(secret string, claims map[string]any) (string, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "NextAuth.js Generated Encryption Key", 32)
	if err != nil {
		return "", err
	}
	return encrypt(jose.A256GCM, key, "", claims)
}

// V5 makes a token of Auth.js v5 for the session cookie of a name.
func V5(secret, cookieName string, claims map[string]any) (string, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), []byte(cookieName), "Auth.js Generated Encryption Key ("+cookieName+")", 64)
	if err != nil {
		return "", err
	}
	thumbprint := sha512.Sum512([]byte(`{"k":"` + base64.RawURLEncoding.EncodeToString(key) + `","kty":"oct"}`))
	return encrypt(jose.A256CBC_HS512, key, base64.RawURLEncoding.EncodeToString(thumbprint[:]), claims)
}

// encrypt makes a token whose claims iat, exp and jti are filled in where they
// are absent. A claim that is nil is left out.
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

// Chunk returns the cookies that a token is kept in: one of the name, or
// NAME.0, NAME.1 and so on when it is longer than size, which is above 0.
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
