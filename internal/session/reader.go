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
	"time"
	"unicode"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/unread"
)

// Limits on the work that a request can cause.
const (
	// maxCookies bounds the cookies of a base name. V8 sorts fewer than 64
	// elements by binary insertion, as sortV8 does.
	maxCookies = 63
	// maxBearers bounds the Authorization fields.
	maxBearers = 4
	// maxReadings bounds the texts that are read from the cookies of a base name.
	maxReadings = 128
	// maxTokens bounds the texts with the form of a token that are decrypted or
	// verified, as far as their headers allow.
	maxTokens = 64
	// maxSignatures bounds the signatures that are verified, which take milliseconds
	// each with some keys. A good request has one token, and that is verified by
	// each key that may be its own.
	maxSignatures = 8
)

// Reader reads the sessions of requests and responses. It is safe for
// concurrent use.
type Reader struct {
	config    Config
	decrypter *jose.Decrypter
	verifier  *jose.Verifier
	cache     *tokenCache
	failures  *failures
	formats   []format
	fields    []string // of requests, in which sessions are looked for
	unread    unread.Names
}

// New returns a reader. It is an error if a cookie name is invalid, a secret is
// empty, or there is neither a key nor a format.
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
	rd := &Reader{config: config, decrypter: decrypter, verifier: verifier, cache: newTokenCache(config.CacheBytes), failures: newFailures()}
	rd.formats, rd.fields = newFormats(config.Formats)
	return rd, nil
}

// CookieNames returns the base names of the session cookies, but for those of
// Config.Formats.
func (rd *Reader) CookieNames() []string { return rd.config.CookieNames }

// SignInPage reports whether a library whose sessions are read has a sign-in page of
// its own, as NextAuth and Auth.js have.
func (rd *Reader) SignInPage() bool { return len(rd.config.CookieNames) > 0 }

// ReadToken reads the value of a session cookie into s, or whole cookies with their
// names. Of a value it tries each base name, because the key of Auth.js depends on
// the name, and each format.
func (rd *Reader) ReadToken(value string, s *Session) {
	if rd.Read(http.Header{"Cookie": {value}}, s); len(s.Names) > 0 {
		return
	}
	for _, name := range rd.config.CookieNames {
		*s = Session{}
		if rd.Read(http.Header{"Cookie": {name + "=" + value}}, s); len(s.Tokens) > 0 || s.Failure == Expired {
			return
		}
	}
	for i := range rd.formats {
		*s = Session{At: rd.config.Now()}
		token := Token{text: decodeValue(value), format: i + 1}
		if s.Failure = rd.decodeFormat(i, token.text, s, &token.Claims); s.Failure == "" {
			s.Tokens = []Token{token}
		}
		if len(s.Tokens) > 0 || s.Failure == Expired {
			return
		}
	}
}

// Read reads every session that an app may find in the header of a request into
// s, which must be zero.
func (rd *Reader) Read(header http.Header, s *Session) {
	s.At = rd.config.Now()
	if len(header["Authorization"]) > maxBearers {
		s.setTooLarge()
	}
	rd.read(rd.appendCookies(s.cookies[:0], header["Cookie"], s), s)
	for _, line := range header["Authorization"] {
		if s.TooLarge {
			return
		}
		var claims Claims
		if rd.readBearer(line, s, &claims) {
			s.Tokens = append(s.Tokens, Token{Claims: claims, fields: []field{{"Authorization", line}}})
			s.Failure = ""
		}
	}
	rd.readFormats(header, s)
	rd.noticeBearers(header["Authorization"], s)
}

// ReadResponse reads the sessions that a response sets into s, which must be
// zero. Renewed are the tokens of the request which a token of the same subject
// renews, and does not begin a session.
func (rd *Reader) ReadResponse(header http.Header, renewed []Token, s *Session) {
	if lines := header["Set-Cookie"]; len(lines) > 0 {
		s.At, s.renewed, s.made = rd.config.Now(), renewed, true
		rd.read(rd.appendSetCookies(s.cookies[:0], lines, s), s)
		rd.readFormats(nil, s)
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
		if _, _, readers := rd.cut(pair); readers == 0 {
			size += len(pair)
		}
	}
	if size > rd.config.MaxTokenBytes || s.TooLarge {
		s.setTooLarge()
		return
	}
	s.Tokens = s.tokens[:0]
	others, ok := appendForeign(nil, s.foreign, rd.config.CookieNames)
	for _, base := range rd.config.CookieNames {
		group := withPrefix(cookies, base)
		if ok && len(group) <= maxCookies {
			if pairs := repeated(group, base); pairs != nil {
				others, ok = appendForeign(others, pairs, []string{base})
			}
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
		if len(readings) > maxReadings {
			s.setTooLarge()
			return
		}
		for i, r := range readings {
			if r.text == "" {
				continue
			}
			if at := slices.IndexFunc(readings[:i], func(before reading) bool { return before.text == r.text }); at >= 0 {
				s.repeat(readings[at], r)
				continue
			}
			s.Tokens = append(s.Tokens, Token{Names: s.namesOf(r.from), from: r.from, text: r.text})
			token := &s.Tokens[len(s.Tokens)-1]
			failure := rd.decode(base, r.text, s, &token.Claims)
			if s.TooLarge {
				return
			}
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
	if first, second := bearers(field); max(len(first), len(second)) > rd.config.MaxTokenBytes {
		s.setTooLarge()
		return false
	}
	return anyBearer(field, func(text string) bool { return rd.decode(anyName, text, s, c) == "" })
}

// anyBearer reports whether does is true for a token that an app may read from an
// Authorization field.
func anyBearer(field string, does func(text string) bool) bool {
	first, second := bearers(field)
	return first != "" && does(decodeURIComponent(first)) || second != "" && does(decodeURIComponent(second))
}

// bearers returns the token of an Authorization field: what is between the first
// two blanks, and, if that is something else, what any whitespace separates.
func bearers(field string) (first, second string) {
	if scheme, rest, _ := strings.Cut(field, " "); strings.EqualFold(scheme, "Bearer") {
		first = before(rest, " ")
	}
	field = strings.TrimSpace(field)
	if end := strings.IndexFunc(field, unicode.IsSpace); end >= 0 && strings.EqualFold(field[:end], "Bearer") {
		second = strings.TrimSpace(field[end:])
		if end := strings.IndexFunc(second, unicode.IsSpace); end >= 0 {
			second = second[:end]
		}
	}
	if second == first {
		second = ""
	}
	return first, second
}

// anyName is the base name for a token that is not in a cookie, and for one that is
// signed, because its key does not depend on the name.
const anyName = jose.AnySalt

// decode decodes the token of a cookie of s with the given base name into c. It
// decrypts or verifies the token unless its claims are cached.
func (rd *Reader) decode(base, text string, s *Session, c *Claims) Failure {
	dots := strings.Count(text, ".")
	switch dots {
	case 2:
		base = anyName
	case 4:
	default:
		return Undecodable
	}
	key := rd.cache.digest(base, text)
	switch expired, found := rd.cache.get(key, s.At, c); {
	case expired:
		return Expired
	case found:
		return ""
	}
	if s.tried++; s.tried > maxTokens {
		s.setTooLarge()
		return TooLarge
	}
	if dots == 2 {
		return rd.decodeSigned(key, text, s, c)
	}
	claims, failure := rd.open(base, text)
	if failure != "" {
		return failure
	}
	if canonical := rd.decrypter.Canonical(text); canonical != text {
		if key = rd.cache.digest(base, canonical); rd.known(key, s, c) {
			return ""
		}
	}
	rd.learn(key, s, &claims, c)
	return ""
}

// open decrypts a token, and checks its claims.
func (rd *Reader) open(base, text string) (Claims, Failure) {
	payload, err := rd.decrypter.Decrypt(base, text)
	if err != nil {
		return Claims{}, Undecodable
	}
	return rd.claims(payload)
}

// decodeSigned is decode for a signed token that is not cached. One that is not valid
// is remembered, too.
func (rd *Reader) decodeSigned(key digest, text string, s *Session, c *Claims) Failure {
	generation := rd.verifier.Generation() // before it is verified by keys that may be newer
	if failure := rd.failures.get(key, generation, s.At); failure != "" {
		return failure
	}
	signed, err := rd.verifier.Parse(text)
	switch {
	case errors.Is(err, jose.ErrKeysUnavailable):
		return KeysUnavailable
	case err != nil:
		return Undecodable
	}
	if canonical := signed.Canonical(); canonical != "" && canonical != text {
		if key = rd.cache.digest(anyName, canonical); rd.known(key, s, c) {
			return ""
		}
		if failure := rd.failures.get(key, generation, s.At); failure != "" {
			return failure
		}
	}
	if !s.maySign(signed.Keys()) {
		return TooLarge
	}
	payload, err := signed.Verify()
	if err != nil {
		rd.failures.put(key, generation, s.At, time.Time{})
		return Undecodable
	}
	claims, failure := rd.claims(payload)
	if failure != "" {
		if _, later := payload["nbf"]; failure == Expired || !later { // then it stays so
			rd.failures.put(key, generation, s.At, claims.ExpiresAt)
		}
		return failure
	}
	rd.learn(key, s, &claims, c)
	return ""
}

// known reads the cached claims of a token into c. It reports whether there are any.
func (rd *Reader) known(key digest, s *Session, c *Claims) bool {
	expired, found := rd.cache.get(key, s.At, c)
	return found && !expired
}

// learn caches the claims of a token, and copies them to c.
func (rd *Reader) learn(key digest, s *Session, claims, c *Claims) {
	claims.ReadAt, claims.SeenAt, claims.Made = s.At, s.seen(claims.Subject), s.made
	rd.cache.put(key, s.At, claims)
	*c = *claims
	c.First = true
}
