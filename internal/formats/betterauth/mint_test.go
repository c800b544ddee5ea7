package betterauth

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	gojose "github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

const (
	secret = "a secret of the app: 32 bytes or more"
	older  = "the secret that the app had before this"
)

// sign returns the cookie session_token of a session.
func sign(secret, id string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(id))
	return url.QueryEscape(id + "." + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// cache is what session_data holds.
type cache struct {
	id, user   string
	signedIn   time.Time
	made, ends time.Time // of the cache
	expires    time.Time // of the session
	extra      string    // more members of the user
}

// newCache returns the cache of a session of a user.
func newCache(id, user string) cache {
	return cache{id: id, user: user, signedIn: minted.Add(-time.Hour), made: minted.Add(-time.Minute), ends: minted.Add(4 * time.Minute), expires: minted.Add(24 * time.Hour)}
}

const iso = "2006-01-02T15:04:05.000Z"

// payload is the JSON of a cache, as Better Auth writes it.
func (c cache) payload() string {
	return fmt.Sprintf(`{"session":{"expiresAt":"%s","token":"%s","createdAt":"%s","userId":"%s","id":"s1"},"user":{"name":"Ada","id":"%s"%s},"updatedAt":%d,"version":"1"}`,
		c.expires.UTC().Format(iso), c.id, c.signedIn.UTC().Format(iso), c.user, c.user, c.extra, c.made.UnixMilli())
}

// envelope is the JSON of the strategy compact.
func (c cache) envelope(secret string) string {
	payload := c.payload()
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, `%s,"expiresAt":%d}`, strings.TrimSuffix(payload, "}"), c.ends.UnixMilli())
	return fmt.Sprintf(`{"session":%s,"expiresAt":%d,"signature":"%s"}`, payload, c.ends.UnixMilli(), base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
}

func compact(_ testing.TB, secret string, c cache) string {
	return base64.RawURLEncoding.EncodeToString([]byte(c.envelope(secret)))
}

// claims are the claims of the strategies jwt and jwe.
func (c cache) claims(t testing.TB) map[string]any {
	t.Helper()
	var claims map[string]any
	if err := json.Unmarshal([]byte(c.payload()), &claims); err != nil {
		t.Fatal(err)
	}
	claims["iat"], claims["exp"] = c.made.Unix(), c.ends.Unix()
	return claims
}

func signed(t testing.TB, secret string, c cache) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(c.claims(t))).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func encrypted(t testing.TB, secret string, c cache) string {
	t.Helper()
	key, err := hkdf.Key(sha256.New, []byte(secret), []byte("better-auth-session"), "BetterAuth.js Generated Encryption Key", 64)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(`{"k":"` + base64.RawURLEncoding.EncodeToString(key) + `","kty":"oct"}`))
	options := new(gojose.EncrypterOptions).WithHeader("kid", base64.RawURLEncoding.EncodeToString(sum[:]))
	encrypter, err := gojose.NewEncrypter(gojose.A256CBC_HS512, gojose.Recipient{Algorithm: gojose.DIRECT, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c.claims(t))
	if err != nil {
		t.Fatal(err)
	}
	object, err := encrypter.Encrypt(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// strategies make a session_data.
var strategies = map[string]func(testing.TB, string, cache) string{"compact": compact, "jwt": signed, "jwe": encrypted}
