package session

import (
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// DefaultCookieNames are the names of the session cookies of Auth.js v5 and
// NextAuth v4, plain and with the prefixes that they have on HTTPS.
var DefaultCookieNames = []string{
	"authjs.session-token", "__Secure-authjs.session-token", "__Host-authjs.session-token",
	"next-auth.session-token", "__Secure-next-auth.session-token", "__Host-next-auth.session-token",
}

// The defaults of Config.
const (
	DefaultSubject  = "sub"
	DefaultIssuedAt = "iat"

	defaultMaxTokenBytes = 64 << 10
	defaultCacheBytes    = 100_000 * TokenBytes
)

// TokenBytes is how many bytes of the cache a token takes, on average, when its
// subject is as long as a UUID and it has no claims to match.
const TokenBytes = 106

// Config says which cookies are session cookies, and how they are read.
// Handlers whose Configs have the same JSON can share a Reader, if they have the
// same JWKS and Formats too.
type Config struct {
	// CookieNames are the base names of the session cookies of NextAuth and Auth.js,
	// and of those that hold a JWT: without the numbers of chunks. Default:
	// DefaultCookieNames; none if there are Formats and no key.
	CookieNames []string
	// Formats read the sessions of other libraries. Default: none.
	Formats []formats.Format `json:"-"`
	// Secrets decrypt the tokens of NextAuth and Auth.js, and verify HMAC
	// signatures.
	Secrets []string
	// PublicKeys verify signatures: see jose.VerifierConfig.
	PublicKeys []crypto.PublicKey
	// JWKS verifies signatures too. Default: none.
	JWKS *jose.JWKS `json:"-"`
	// Issuer and Audience are what the iss claim must be, and what the aud claim
	// must be or contain. Default: not checked.
	Issuer, Audience string
	// Subject is the path of the claim that holds the user id. Default: sub.
	Subject string
	// IssuedAt is the path of the claim that holds the time of sign-in: seconds
	// or milliseconds since 1970, or RFC 3339. A token without it was issued at
	// its iat. Default: iat.
	IssuedAt string
	// Match are the paths of the claims in Claims.Match.
	Match []string
	// MaxTokenBytes bounds the session cookies of a request, in bytes. Default:
	// 64 KiB.
	MaxTokenBytes int
	// CacheBytes bounds the cache of decoded tokens, in bytes. Default: 10 MB.
	CacheBytes int
	// Now is the clock. Default: time.Now.
	Now func() time.Time `json:"-"`
}

// withDefaults validates the config and fills in its defaults.
func (c Config) withDefaults() (Config, error) {
	keys := len(c.Secrets) > 0 || len(c.PublicKeys) > 0 || c.JWKS != nil
	if len(c.CookieNames) == 0 && keys {
		c.CookieNames = DefaultCookieNames
	}
	for _, name := range c.CookieNames {
		if !isValidName(name) {
			return c, fmt.Errorf("cookie name %q: only letters, digits and !#$%%&'*+-.^_`|~ are allowed", name)
		}
	}
	if slices.Contains(c.Secrets, "") {
		return c, errors.New("a secret is empty")
	}
	switch {
	case !keys && len(c.Formats) == 0:
		return c, errors.New("no key to read session tokens with: configure a secret, a key file or a JWKS")
	case len(c.Formats) > maxFormats:
		return c, fmt.Errorf("%d formats; there can be %d", len(c.Formats), maxFormats)
	}
	c.Subject = cmp.Or(c.Subject, DefaultSubject)
	c.IssuedAt = cmp.Or(c.IssuedAt, DefaultIssuedAt)
	c.MaxTokenBytes = cmp.Or(c.MaxTokenBytes, defaultMaxTokenBytes)
	c.CacheBytes = cmp.Or(c.CacheBytes, defaultCacheBytes)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}
