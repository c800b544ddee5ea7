// Package remix verifies the sessions of createCookieSessionStorage, as Remix 2 and
// React Router 7 write them.
package remix

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// signatureText is the length of base64 of a SHA-256, without padding.
const signatureText = 43

// Verifier verifies sessions. It is safe for concurrent use.
type Verifier struct{ secrets []string }

// New returns a verifier of the sessions that are signed with one of the secrets. It is
// an error if there is none, or one is empty: anybody can write sessions that are not
// signed.
func New(secrets []string) (*Verifier, error) {
	if len(secrets) == 0 || slices.Contains(secrets, "") {
		return nil, errors.New("a secret of the session cookies is missing: sessions that are not signed cannot be judged")
	}
	return &Verifier{secrets}, nil
}

// IsSession reports whether a text has the form of a signed session.
func IsSession(text string) bool {
	_, _, ok := parse(text)
	return ok
}

func parse(text string) (payload, signature string, ok bool) {
	at := strings.LastIndexByte(text, '.')
	if at < 4 || strings.IndexByte(text, '.') != at {
		return "", "", false
	}
	payload, signature = text[:at], ignored.Replace(text[at+1:])
	return payload, signature, len(signature) == signatureText && isBase64(signature) && isBase64(strings.TrimRight(payload, "="))
}

// ignored removes what the libraries ignore in a signature, as atob does.
var ignored = strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "", "\f", "", "=", "")

// canonical returns a session as it is written, without what is ignored.
func canonical(text string) string {
	payload, signature, _ := parse(text)
	return payload + "." + signature
}

// isBase64 reports whether a text has only the digits of base64.
func isBase64(text string) bool {
	return strings.IndexFunc(text, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '+' && c != '/'
	}) < 0
}

// Verify returns what a session holds. The error is jose.ErrInvalid.
func (v *Verifier) Verify(text string) (map[string]any, error) {
	payload, signature, ok := parse(text)
	if !ok {
		return nil, jose.ErrInvalid
	}
	sum, err := base64.RawStdEncoding.DecodeString(signature)
	if err != nil || !slices.ContainsFunc(v.secrets, func(secret string) bool {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(payload))
		return hmac.Equal(mac.Sum(nil), sum)
	}) {
		return nil, jose.ErrInvalid
	}
	content, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(payload, "="))
	if err != nil {
		return nil, jose.ErrInvalid
	}
	return jose.ParsePayload(content)
}
