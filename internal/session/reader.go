// Package session reads the sessions of a request as the app behind would:
// session cookies, token formats and keys in, claims out.
//
// It mirrors next-auth 4.24 and @auth/core 0.41, and is on purpose a little
// wider than either: what an app might read as a session must not go unjudged.
package session

import (
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// DefaultCookieNames are the names of the session cookies of Auth.js v5 and
// NextAuth v4, plain and with the prefixes that they take on HTTPS.
var DefaultCookieNames = []string{
	"authjs.session-token", "__Secure-authjs.session-token", "__Host-authjs.session-token",
	"next-auth.session-token", "__Secure-next-auth.session-token", "__Host-next-auth.session-token",
}

// What claims are read when Config does not say.
const (
	DefaultSubject  = "sub"
	DefaultIssuedAt = "iat"
)

// Limits on what is looked at, so that a request cannot make much work.
const (
	defaultMaxTokenBytes = 64 << 10
	// maxCookies of one base name: with fewer than 64, V8 sorts them by binary
	// insertion, which order.go mirrors.
	maxCookies = 63
	// maxBearers is how many Authorization fields are looked at.
	maxBearers = 4
)

// Config says which cookies are session cookies, and how to read them.
type Config struct {
	// CookieNames are the session cookies' names without the numbers of
	// chunks. Default: DefaultCookieNames.
	CookieNames []string
	// Secrets decrypt tokens of Auth.js, and verify signatures by HMAC.
	Secrets []string
	// PublicKeys verify signatures: *rsa.PublicKey, *ecdsa.PublicKey and
	// ed25519.PublicKey.
	PublicKeys []crypto.PublicKey
	// JWKS verifies signatures too; nil for none.
	JWKS *jose.JWKS `json:"-"`
	// Issuer and Audience are what the iss and aud claims must say; empty for
	// anything.
	Issuer, Audience string
	// Subject is the path of the claim that names the user. Default: sub.
	Subject string
	// IssuedAt is the path of the claim that says when the session began, in
	// seconds or milliseconds since 1970 or as RFC 3339 has it. A token
	// without it counts from its iat. Default: iat.
	IssuedAt string
	// Match are the paths of the claims to put into Claims.Match.
	Match []string
	// MaxTokenBytes bounds the session cookies of a request. Default: 64 KiB.
	MaxTokenBytes int
	// CacheBytes bounds the memory of what tokens say. Default: 10 MB.
	CacheBytes int
	// Now is the clock. Default: time.Now.
	Now func() time.Time `json:"-"`
}

// Reader reads the sessions of requests and responses. It is safe for use by
// several goroutines.
type Reader struct {
	config    Config
	decrypter *jose.Decrypter
	verifier  *jose.Verifier
	decoded   *decoded
}

// Session is what was read from a request or a response. It must not be
// copied, because its parts point into it.
type Session struct {
	// At is when it was read.
	At time.Time
	// Names are the names of the session cookies, each once, in their order.
	// In a response they include those that it deletes.
	Names []string
	// Tokens are the different tokens that the cookies can be read as, without
	// expired ones.
	Tokens []Token
	// Failure tells why there is none; empty when nothing looked like one.
	Failure Failure
	// TooLarge tells that the limits were exceeded. The cookies were not
	// looked at, so they must not be let through.
	TooLarge bool

	// What the usual session fits into without further memory.
	jar    [2]cookie
	names  [2]string
	tokens [1]Token
	ways   [1]reading
}

// Token is one reading of the session cookies.
type Token struct {
	// Claims are what the token says.
	Claims Claims
	// Names are the cookies that the token was put together from. There are
	// none for an Authorization field.
	Names []string
}

// Failure tells why a request with session cookies has no token.
type Failure string

// The failures, the more telling ones first.
const (
	// TooLarge: the limits were exceeded.
	TooLarge Failure = "too_large"
	// KeysUnavailable: the key set has not been fetched yet.
	KeysUnavailable Failure = "keys_unavailable"
	// Expired: a token of the app, but its time is over.
	Expired Failure = "expired"
	// Undecodable: no token of the app.
	Undecodable Failure = "undecodable"
)

// New returns a reader. It derives all keys. It is an error to have none.
func New(config Config) (*Reader, error) {
	if len(config.CookieNames) == 0 {
		config.CookieNames = DefaultCookieNames
	}
	for _, name := range config.CookieNames {
		if !validName(name) {
			return nil, fmt.Errorf("cookie name %q: only letters, digits and !#$%%&'*+-.^_`|~ can be part of it", name)
		}
	}
	if slices.Contains(config.Secrets, "") {
		return nil, errors.New("a secret is empty")
	}
	if len(config.Secrets) == 0 && len(config.PublicKeys) == 0 && config.JWKS == nil {
		return nil, errors.New("no key to read session tokens with: give a secret, a key file or a JWKS")
	}
	config.Subject = cmp.Or(config.Subject, DefaultSubject)
	config.IssuedAt = cmp.Or(config.IssuedAt, DefaultIssuedAt)
	config.MaxTokenBytes = cmp.Or(config.MaxTokenBytes, defaultMaxTokenBytes)
	if config.Now == nil {
		config.Now = time.Now
	}
	rd := &Reader{config: config}
	var err error
	if rd.decrypter, err = jose.NewDecrypter(config.Secrets, config.CookieNames); err != nil {
		return nil, err
	}
	rd.verifier, err = jose.NewVerifier(jose.VerifierConfig{Secrets: config.Secrets, PublicKeys: config.PublicKeys, JWKS: config.JWKS})
	if err != nil {
		return nil, err
	}
	rd.decoded = newDecoded(cmp.Or(config.CacheBytes, defaultCacheBytes))
	return rd, nil
}

// ReadToken reads a token that is the value of one of the cookies, of which it
// is not known which.
func (rd *Reader) ReadToken(value string, s *Session) {
	for _, name := range rd.config.CookieNames {
		*s = Session{}
		if rd.Read(http.Header{"Cookie": {name + "=" + value}}, s); len(s.Tokens) > 0 || s.Failure == Expired {
			return
		}
	}
}

// Read reads every session that an app could find in the header of a request
// into s, which has to be new.
func (rd *Reader) Read(header http.Header, s *Session) {
	s.At = rd.config.Now()
	rd.read(rd.jar(s.jar[:0], header["Cookie"]), s)
	if s.TooLarge {
		return
	}
	for i, field := range header["Authorization"] {
		if i == maxBearers {
			break
		}
		var claims Claims
		if rd.bearer(field, s.At, &claims) {
			s.Tokens = append(s.Tokens, Token{Claims: claims})
			s.Failure = ""
		}
	}
}

// ReadResponse reads the sessions that a response sets into s, which has to be
// new.
func (rd *Reader) ReadResponse(header http.Header, s *Session) {
	if set := header["Set-Cookie"]; len(set) > 0 {
		s.At = rd.config.Now()
		rd.read(rd.setJar(s.jar[:0], set, s.At), s)
	}
}

// read decodes every reading of a jar.
func (rd *Reader) read(jar []cookie, s *Session) {
	if len(jar) == 0 {
		return
	}
	s.Names = appendNames(s.names[:0], jar)
	size := 0
	for _, c := range jar {
		size += len(c.value)
	}
	if size > rd.config.MaxTokenBytes {
		s.setTooLarge()
		return
	}
	s.Tokens = s.tokens[:0]
	for _, base := range rd.config.CookieNames {
		group := withPrefix(jar, base)
		if len(group) > maxCookies {
			s.setTooLarge()
			return
		}
		ways := appendReadings(s.ways[:0], group, base)
		for i, way := range ways {
			if way.text == "" || slices.ContainsFunc(ways[:i], func(before reading) bool { return before.text == way.text }) {
				continue
			}
			s.Tokens = append(s.Tokens, Token{Names: way.names})
			if len(group) == 1 { // part of what there is already
				at := slices.Index(s.Names, group[0].name)
				s.Tokens[len(s.Tokens)-1].Names = s.Names[at : at+1 : at+1]
			}
			token := &s.Tokens[len(s.Tokens)-1]
			failure := rd.decode(base, way.text, s.At, &token.Claims)
			if failure != "" {
				s.Tokens = s.Tokens[:len(s.Tokens)-1]
			}
			s.Failure = graver(s.Failure, failure)
		}
	}
	if len(s.Tokens) > 0 {
		s.Failure = ""
	}
}

// setTooLarge makes s a session whose cookies were not looked at.
func (s *Session) setTooLarge() {
	s.Tokens, s.Failure, s.TooLarge = nil, TooLarge, true
}

// graver returns the more telling of two failures.
func graver(a, b Failure) Failure {
	if b == "" {
		return a
	}
	order := []Failure{"", Undecodable, Expired, KeysUnavailable}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// bearer reads the token of an Authorization field, as getToken of next-auth
// and @auth/core does, whatever case the scheme is in.
func (rd *Reader) bearer(field string, now time.Time, c *Claims) bool {
	for _, parts := range [][]string{strings.Split(field, " "), strings.Fields(field)} {
		if len(parts) < 2 || !strings.EqualFold(parts[0], "Bearer") || len(parts[1]) > rd.config.MaxTokenBytes {
			continue
		}
		text := decodeURIComponent(parts[1])
		if slices.ContainsFunc(rd.config.CookieNames, func(base string) bool { return rd.decode(base, text, now, c) == "" }) {
			return true
		}
	}
	return false
}

// decode reads a token that stands under the base name of a cookie into c, or
// remembers what it says.
func (rd *Reader) decode(base, text string, now time.Time, c *Claims) Failure {
	if dots := strings.Count(text, "."); dots != 4 && dots != 2 {
		return Undecodable
	}
	key := rd.decoded.digest(base, text)
	switch expired, found := rd.decoded.find(key, now, c); {
	case expired:
		return Expired
	case found:
		return ""
	}
	claims, failure := rd.open(base, text)
	if failure == "" {
		rd.decoded.keep(key, now, &claims)
		*c = claims
	}
	return failure
}

// open decrypts or verifies a token.
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

// CookieNames returns the base names of the session cookies.
func (rd *Reader) CookieNames() []string {
	return rd.config.CookieNames
}
