// Package session reads the sessions of requests and responses as the app
// would: session cookies in, claims out.
//
// It mirrors next-auth 4.24 and @auth/core 0.41. Where they or their cookie
// parsers differ, it reads everything that any of them reads, so that no app
// sees a session that was not checked.
package session

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// Limits on the work that a request can cause.
const (
	// maxCookies bounds the cookies of a base name. V8 sorts fewer than 64
	// elements by binary insertion, as sortV8 does.
	maxCookies = 63
	// maxBearers bounds the Authorization fields.
	maxBearers = 4
	// maxSignatures bounds the signatures, which take milliseconds each with some
	// keys. A good request has one.
	maxSignatures = 8
)

// Reader reads the sessions of requests and responses. It is safe for
// concurrent use.
type Reader struct {
	config    Config
	decrypter *jose.Decrypter
	verifier  *jose.Verifier
	cache     *tokenCache
}

// New returns a reader. It is an error if a cookie name is invalid, a secret is
// empty, or there is no key.
func New(config Config) (*Reader, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	decrypter, err := jose.NewDecrypter(config.Secrets, config.CookieNames)
	if err != nil {
		return nil, err
	}
	verifier, err := jose.NewVerifier(jose.VerifierConfig{Secrets: config.Secrets, PublicKeys: config.PublicKeys, JWKS: config.JWKS})
	if err != nil {
		return nil, err
	}
	return &Reader{config, decrypter, verifier, newTokenCache(config.CacheBytes)}, nil
}

// CookieNames returns the base names of the session cookies.
func (rd *Reader) CookieNames() []string { return rd.config.CookieNames }

// ReadToken reads the value of a session cookie into s. It tries each base
// name, because the key of Auth.js depends on the name.
func (rd *Reader) ReadToken(value string, s *Session) {
	for _, name := range rd.config.CookieNames {
		*s = Session{}
		if rd.Read(http.Header{"Cookie": {name + "=" + value}}, s); len(s.Tokens) > 0 || s.Failure == Expired {
			return
		}
	}
}

// Read reads every session that an app may find in the header of a request into
// s, which must be zero.
func (rd *Reader) Read(header http.Header, s *Session) {
	s.At = rd.config.Now()
	rd.read(rd.appendCookies(s.cookies[:0], header["Cookie"], s), s)
	if s.TooLarge {
		return
	}
	for i, field := range header["Authorization"] {
		if i == maxBearers {
			break
		}
		if isSigned(field) && !s.maySign() {
			return
		}
		var claims Claims
		if rd.readBearer(field, s, &claims) {
			s.Tokens = append(s.Tokens, Token{Claims: claims, field: field})
			s.Failure = ""
		}
	}
}

// ReadResponse reads the sessions that a response sets into s, which must be
// zero. Renewed are the tokens of the request which a token of the same subject
// renews, and does not begin a session.
func (rd *Reader) ReadResponse(header http.Header, renewed []Token, s *Session) {
	if lines := header["Set-Cookie"]; len(lines) > 0 {
		s.At, s.renewed = rd.config.Now(), renewed
		rd.read(rd.appendSetCookies(s.cookies[:0], lines, s), s)
	}
}

// read decodes every reading of the session cookies.
func (rd *Reader) read(cookies []cookie, s *Session) {
	if len(cookies) == 0 && len(s.foreign) == 0 {
		return
	}
	s.jar, s.Names = cookies, appendNames(s.names[:0], cookies)
	size := 0
	for _, c := range cookies {
		size += len(c.value)
	}
	for _, pair := range s.foreign {
		if name, _ := rd.cut(pair); name == "" {
			size += len(pair)
		}
	}
	if size > rd.config.MaxTokenBytes || len(s.foreign) > maxCookies {
		s.setTooLarge()
		return
	}
	s.Tokens = s.tokens[:0]
	others, ok := appendForeign(nil, s.foreign, rd.config.CookieNames)
	for _, base := range rd.config.CookieNames {
		group := withPrefix(cookies, base)
		if ok && len(group) <= maxCookies {
			others, ok = appendForeign(others, repeated(group, base), []string{base})
		}
		if !ok || len(group) > maxCookies {
			s.setTooLarge()
			return
		}
		readings := appendReadings(s.readings[:0], group, base)
		for _, f := range others {
			if f.base == base {
				readings = append(readings, f.reading)
			}
		}
		for i, r := range readings {
			if r.text == "" {
				continue
			}
			if at := slices.IndexFunc(readings[:i], func(before reading) bool { return before.text == r.text }); at >= 0 {
				s.repeat(readings[at], r)
				continue
			}
			if isSigned(r.text) && !s.maySign() {
				return
			}
			s.Tokens = append(s.Tokens, Token{Names: s.namesOf(r.from), from: r.from, text: r.text})
			token := &s.Tokens[len(s.Tokens)-1]
			failure := rd.decode(base, r.text, s, &token.Claims)
			if failure != "" || len(others) > 0 && slices.ContainsFunc(s.Tokens[:len(s.Tokens)-1], token.repeats) {
				s.Tokens = s.Tokens[:len(s.Tokens)-1]
			}
			s.Failure = moreImportant(s.Failure, failure)
		}
	}
	if len(s.Tokens) > 0 {
		s.Failure = ""
	}
}

// readBearer reads the token of an Authorization field, as getToken of
// next-auth and @auth/core does, but with the scheme in any case. It reports
// whether there is a valid one.
func (rd *Reader) readBearer(field string, s *Session, c *Claims) bool {
	var before string
	for _, parts := range [][]string{strings.Split(field, " "), strings.Fields(field)} {
		if len(parts) < 2 || !strings.EqualFold(parts[0], "Bearer") || len(parts[1]) > rd.config.MaxTokenBytes || parts[1] == before {
			continue
		}
		before = parts[1]
		text, bases := decodeURIComponent(parts[1]), rd.config.CookieNames
		if isSigned(text) { // with the same key for each
			bases = bases[:1]
		}
		if slices.ContainsFunc(bases, func(base string) bool { return rd.decode(base, text, s, c) == "" }) {
			return true
		}
	}
	return false
}

// isSigned reports whether a text can be a signed token.
func isSigned(text string) bool { return strings.Count(text, ".") == 2 }

// decode decodes the token of a cookie of s with the given base name into c. It
// decrypts or verifies the token unless its claims are cached.
func (rd *Reader) decode(base, text string, s *Session, c *Claims) Failure {
	if dots := strings.Count(text, "."); dots != 4 && dots != 2 {
		return Undecodable
	}
	key := rd.cache.digest(base, text)
	switch expired, found := rd.cache.get(key, s.At, c); {
	case expired:
		return Expired
	case found:
		return ""
	}
	claims, failure := rd.open(base, text)
	if failure == "" {
		claims.SeenAt = s.seen(claims.Subject)
		rd.cache.put(key, s.At, &claims)
		*c = claims
		c.First = true
	}
	return failure
}

// open decrypts or verifies a token, and checks its claims.
func (rd *Reader) open(base, text string) (Claims, Failure) {
	var payload map[string]any
	var err error
	if strings.Count(text, ".") == 4 {
		payload, err = rd.decrypter.Decrypt(base, text)
	} else {
		payload, err = rd.verifier.Verify(text)
	}
	switch {
	case errors.Is(err, jose.ErrKeysUnavailable):
		return Claims{}, KeysUnavailable
	case err != nil:
		return Claims{}, Undecodable
	}
	return rd.claims(payload)
}
