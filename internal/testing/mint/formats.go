package mint

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Seal is a Fe26.2 seal of iron-webcrypto.
type Seal struct {
	// Password seals it.
	Password string
	// ID names the password: "1" in iron-session, none in h3.
	ID string
	// Iterations are how often its keys are hashed: 8192 times in h3 v2. Default: 1.
	Iterations int
	// Expires is when it expires. Default: never.
	Expires time.Time
}

// Of returns the seal of a value.
func (s Seal) Of(value any) (string, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	expires := ""
	if !s.Expires.IsZero() {
		expires = strconv.FormatInt(s.Expires.UnixMilli(), 10)
	}
	salt, macSalt, iv := random(32), random(32), random(aes.BlockSize)
	key, err := s.derive(hex.EncodeToString(salt))
	if err != nil {
		return "", err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	padding := aes.BlockSize - len(content)%aes.BlockSize
	content = append(content, slices.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(content, content)
	encode := base64.RawURLEncoding.EncodeToString
	signed := strings.Join([]string{"Fe26.2", s.ID, hex.EncodeToString(salt), encode(iv), encode(content), expires}, "*")
	if key, err = s.derive(hex.EncodeToString(macSalt)); err != nil {
		return "", err
	}
	return signed + "*" + hex.EncodeToString(macSalt) + "*" + encode(sum(key, signed)), nil
}

func (s Seal) derive(salt string) ([]byte, error) {
	return pbkdf2.Key(sha1.New, s.Password, []byte(salt), max(1, s.Iterations), 32)
}

func random(bytes int) []byte {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return b
}

func sum(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// Remix returns a session of createCookieSessionStorage of Remix 2 and React Router 7,
// as it stands in the cookie.
func Remix(secret string, value any) (string, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	payload := base64.StdEncoding.EncodeToString(content)
	return url.QueryEscape(payload + "." + base64.RawStdEncoding.EncodeToString(sum([]byte(secret), payload))), nil
}

// Auth0 returns a session of @auth0/nextjs-auth0 4. The header may have further fields,
// as in version 3.
func Auth0(secret string, header map[string]any, value any) (string, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "JWE CEK", 32)
	if err != nil {
		return "", err
	}
	options := new(jose.EncrypterOptions)
	for name, value := range header {
		options = options.WithHeader(jose.HeaderKey(name), value)
	}
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: key}, options)
	if err != nil {
		return "", err
	}
	token, err := encrypter.Encrypt(content)
	if err != nil {
		return "", err
	}
	return token.CompactSerialize()
}

// Supabase returns the value of a session cookie of @supabase/ssr with an access token.
// The user beside it is not signed.
func Supabase(accessToken string, user any) (string, error) {
	content, err := json.Marshal(map[string]any{
		"access_token": accessToken, "token_type": "bearer", "expires_in": 3600,
		"expires_at": time.Now().Add(time.Hour).Unix(), "refresh_token": "u5kq2vvqqwcn", "user": user,
	})
	if err != nil {
		return "", err
	}
	return "base64-" + base64.RawURLEncoding.EncodeToString(content), nil
}
