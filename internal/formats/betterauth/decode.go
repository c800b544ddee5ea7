package betterauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// Decode implements formats.Format.
//
// The app believes the cache beside a valid session_token. In 1.7 it must be that of
// the same session, in releases before it is believed whosever it is. So the user of
// the cache is certain only if both name the same session.
func (f *format) Decode(text string, now time.Time) (formats.Session, error) {
	token, cache, cached := strings.Cut(text, separator)
	id, valid := f.token(token)
	if !cached {
		if !valid {
			return formats.Session{}, formats.ErrInvalid
		}
		return formats.Session{AppAsks: true, ID: id}, nil
	}
	session, err := f.cache(cache, now)
	switch {
	case err != nil && valid && !errors.Is(err, formats.ErrKeysUnavailable): // the app looks the token up
		return formats.Session{AppAsks: true, ID: id}, nil
	case err != nil:
		return formats.Session{}, err
	}
	session.Doubtful = !valid || formats.Find(session.Claims, "session.token") != id
	return session, nil
}

// signatureLength is the length of a signature of a session_token.
const signatureLength = 44

// splitToken splits a session_token, whose signature follows the last dot.
func splitToken(text string) (id, signature string, ok bool) {
	end := strings.LastIndexByte(text, '.')
	if end < 1 {
		return "", "", false
	}
	id, signature = text[:end], text[end+1:]
	return id, signature, len(signature) == signatureLength && strings.HasSuffix(signature, "=")
}

// token returns what a session_token says. It is not valid if none of the secrets
// has signed it.
func (f *format) token(text string) (id string, valid bool) {
	id, encoded, ok := splitToken(text)
	if !ok {
		return "", false
	}
	signature, ok := decodeBase64(encoded)
	if !ok {
		return "", false
	}
	for _, secret := range f.secrets {
		if isSigned(secret, []byte(id), signature) {
			return id, true
		}
	}
	return "", false
}

func isSigned(secret, text, signature []byte) bool {
	mac := hmac.New(sha256.New, secret)
	mac.Write(text)
	var sum [sha256.Size]byte
	return hmac.Equal(mac.Sum(sum[:0]), signature)
}

// tolerance is how long an encrypted cache is valid past its end.
const tolerance = 15 * time.Second

// cache verifies a session_data of any strategy.
func (f *format) cache(text string, now time.Time) (formats.Session, error) {
	var claims map[string]any
	var err error
	switch strings.Count(text, ".") {
	case 0:
		claims, err = f.compact(text)
	case 2:
		claims, err = f.verifier.Verify(text)
	case 4:
		claims, err = f.decrypter.Decrypt(jose.AnySalt, text)
	default:
		err = formats.ErrInvalid
	}
	if errors.Is(err, formats.ErrKeysUnavailable) {
		return formats.Session{}, err
	}
	id, hasID := formats.Find(claims, "session.token").(string)
	subject := formats.Subject(claims, f.subject)
	if err != nil || !hasID || id == "" || subject == "" {
		return formats.Session{}, formats.ErrInvalid
	}
	session := formats.Session{Claims: claims, Subject: subject, ID: id}
	session.SignedInAt, _ = formats.Time(formats.Find(claims, "session.createdAt"))
	session.MadeAt = first(claims, "updatedAt", "iat")
	for _, path := range []string{"expiresAt", "exp", "session.expiresAt"} {
		if at, ok := formats.Time(formats.Find(claims, path)); ok && (session.ExpiresAt.IsZero() || at.Before(session.ExpiresAt)) {
			session.ExpiresAt = at
		}
	}
	if !session.ExpiresAt.IsZero() && !session.ExpiresAt.After(now.Add(-tolerance)) {
		return formats.Session{}, formats.ErrExpired
	}
	return session, nil
}

// first returns the first time that there is at some paths.
func first(claims map[string]any, paths ...string) time.Time {
	for _, path := range paths {
		if at, ok := formats.Time(formats.Find(claims, path)); ok {
			return at
		}
	}
	return time.Time{}
}

// compact verifies a cache of the strategy compact. The app parses it, and verifies
// the text that it would write of what it has read.
func (f *format) compact(text string) (map[string]any, error) {
	decoded, ok := decodeBase64(text)
	if !ok {
		return nil, formats.ErrInvalid
	}
	outer, ok := parseJSON(toUTF8(decoded))
	if !ok {
		return nil, formats.ErrInvalid
	}
	payload, expires := outer.member("session"), outer.member("expiresAt")
	signature, ok := decodeBase64(outer.member("signature").unquoted())
	if !ok || payload == nil || payload.kind != object || expires == nil || expires.kind != number {
		return nil, formats.ErrInvalid
	}
	payload.set("expiresAt", expires)
	signed := payload.append(nil)
	for _, secret := range f.secrets {
		if isSigned(secret, signed, signature) {
			return jose.ParsePayload(signed)
		}
	}
	return nil, formats.ErrInvalid
}
