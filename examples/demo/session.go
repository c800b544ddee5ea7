package main

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

// cookieName is NextAuth v4's on plain HTTP.
const cookieName = "next-auth.session-token"

// session is what the session cookie says about a visitor.
type session struct {
	Subject string `json:"sub"`
	Name    string `json:"name"`
	Email   string `json:"email"`
	Expires int64  `json:"exp"`
}

// read decrypts the session cookie and trusts it, as NextAuth does, without a
// query.
func (a *app) read(r *http.Request) *session {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	key, err := hkdf.Key(sha256.New, []byte(a.secret), nil, "NextAuth.js Generated Encryption Key", 32)
	if err != nil {
		return nil
	}
	token, err := jose.ParseEncryptedCompact(cookie.Value, []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil
	}
	payload, err := token.Decrypt(key)
	if err != nil {
		return nil
	}
	var s session
	if json.Unmarshal(payload, &s) != nil || time.Now().Unix() > s.Expires {
		return nil
	}
	return &s
}

// write sets a new session cookie.
func (a *app) write(w http.ResponseWriter, s session) error {
	token, err := mint.V4(a.secret, map[string]any{"sub": s.Subject, "name": s.Name, "email": s.Email})
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: token, Path: "/", MaxAge: 30 * 24 * 60 * 60, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return nil
}
