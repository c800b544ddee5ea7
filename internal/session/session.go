package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/unread"
)

// Session holds the session tokens of a request or a response. It must not be
// copied, because it holds pointers into itself.
type Session struct {
	// At is when it was read.
	At time.Time
	// Names are the names of the session cookies, without duplicates, in the
	// order in which they came. In a response they include those that it deletes.
	Names []string
	// Tokens are the valid tokens that an app may read from the cookies, without
	// duplicates.
	Tokens []Token
	// Failure says why there is no token. It is empty when there are tokens, or
	// no session cookies.
	Failure Failure
	// TooLarge reports whether the session cookies exceed the limits. They were
	// not read then, so they must not reach the app.
	TooLarge bool
	// Unread is what looks like a session and is read by nothing, if that is noticed
	// for the first time.
	Unread []unread.Found

	jar     []cookie // the session cookies
	foreign []string // pairs that other frameworks may read differently

	tried      int     // how many texts with the form of a token were not known
	signatures int     // how many were verified, at most
	noticed    int     // how many cookies that nothing reads were looked at, at most
	renewed    []Token // of the request, in a response
	made       bool    // it is that of a response

	// Room for the usual session, so that reading it allocates nothing.
	cookies  [2]cookie
	names    [2]string
	tokens   [1]Token
	readings [1]reading
}

// Token is one way to read the session cookies.
type Token struct {
	// Claims are the claims of the token.
	Claims Claims
	// Names are the names of the cookies that hold the token. There are none if
	// it is from an Authorization header.
	Names []string

	from   []cookie // the cookies that hold it
	also   []cookie // others that it can be read from
	text   string
	fields []field // those that hold it
	format int     // of Config.Formats, plus one; 0 for NextAuth, Auth.js and JWTs
}

// field is a field of a header.
type field struct{ name, value string }

// Format returns the place in Config.Formats of the format of the token; -1 for
// NextAuth, Auth.js and JWTs.
func (t *Token) Format() int { return t.format - 1 }

// Mark returns a short hash of the cookies that hold the token, which tells nothing
// of it; empty if it is from an Authorization header.
func (t *Token) Mark() string {
	if len(t.from) == 0 {
		return ""
	}
	var room [1 << 10]byte // usually enough
	all := room[:0]
	for _, c := range t.from {
		all = append(append(all, trim(c.pair)...), ';')
	}
	hash := sha256.Sum256(all)
	return base64.RawURLEncoding.EncodeToString(hash[:9])
}

// repeats reports whether another token is this one, but for characters that
// decoding ignores, in the same cookies.
func (t *Token) repeats(other Token) bool {
	a, b := &t.Claims, &other.Claims
	return bytes.Equal(a.Subject, b.Subject) && a.MintedAt.Equal(b.MintedAt) && a.IssuedAt.Equal(b.IssuedAt) && a.ExpiresAt.Equal(b.ExpiresAt) &&
		slices.EqualFunc(a.Match, b.Match, bytes.Equal) &&
		slices.EqualFunc(t.from, other.from, func(a, b cookie) bool { return a.pair == b.pair })
}

// Failure says why session cookies hold no valid token.
type Failure string

// The failures, the most important first: if readings fail in different ways,
// Session.Failure is the first of these.
const (
	// TooLarge: the session cookies exceed the limits.
	TooLarge Failure = "too_large"
	// KeysUnavailable: the key set has not been fetched yet.
	KeysUnavailable Failure = "keys_unavailable"
	// Expired: a token of the app, which has expired.
	Expired Failure = "expired"
	// Undecodable: not a token of the app.
	Undecodable Failure = "undecodable"
)

// namesOf returns the names of cookies. Of a single one it allocates nothing.
func (s *Session) namesOf(from []cookie) []string {
	if len(from) == 1 {
		if at := slices.Index(s.Names, trim(from[0].name)); at >= 0 {
			return s.Names[at : at+1 : at+1]
		}
	}
	return appendNames(nil, from)
}

// Count returns how many cookies have a name.
func (s *Session) Count(name string) int {
	n := 0
	for _, c := range s.jar {
		if trim(c.name) == name {
			n++
		}
	}
	return n
}

// SignInPage reports whether the library of one of the tokens has a sign-in page of
// its own.
func (s *Session) SignInPage() bool {
	return slices.ContainsFunc(s.Tokens, func(t Token) bool { return t.format == 0 })
}

// Has reports whether a browser sends a cookie with the given name in which some app
// may look for a session.
func (s *Session) Has(name string) bool {
	for range s.pairs(name) {
		return true
	}
	return false
}

// HoldsMore reports whether a cookie with the given name holds something else than
// one of the tokens: nothing is known of it.
func (s *Session) HoldsMore(name string) bool {
	for pair := range s.pairs(name) {
		if !s.holdsToken(pair) {
			return true
		}
	}
	return false
}

// pairs returns the cookies that a browser sends by a name.
func (s *Session) pairs(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, c := range s.jar {
			if trim(c.name) == name && !yield(c.pair) {
				return
			}
		}
		for _, pair := range s.foreign {
			if isNamed(pair, name) && !yield(pair) {
				return
			}
		}
	}
}

// isNamed reports whether a browser sends a pair as a cookie with a name.
func isNamed(pair, name string) bool {
	sent, _, _ := strings.Cut(pair, "=")
	return trim(sent) == name
}

// IsIn reports whether a browser sends the token in a cookie with the given name,
// possibly beside other things.
func (t *Token) IsIn(name string) bool {
	named := func(c cookie) bool { return isNamed(c.pair, name) }
	return slices.Contains(t.Names, name) || slices.ContainsFunc(t.from, named) || slices.ContainsFunc(t.also, named)
}

// repeat notes that what was read before can be read from other cookies, too.
func (s *Session) repeat(before, again reading) {
	same := func(a, b []cookie) bool {
		return slices.EqualFunc(a, b, func(a, b cookie) bool { return a.pair == b.pair })
	}
	if same(before.from, again.from) {
		return
	}
	for i := range s.Tokens {
		if t := &s.Tokens[i]; t.text == before.text || same(t.from, before.from) {
			t.also = append(t.also, again.from...)
		}
	}
}

// holdsToken reports whether a cookie holds one of the tokens.
func (s *Session) holdsToken(pair string) bool {
	for i := range s.Tokens {
		for _, cookies := range [...][]cookie{s.Tokens[i].from, s.Tokens[i].also} {
			for k := range cookies {
				if cookies[k].pair == pair {
					return true
				}
			}
		}
	}
	return false
}

// maySign counts the signatures of a token, one by each key that may be its own. It
// reports whether they may be verified; if not, the session is too large. Those of
// one token always may.
func (s *Session) maySign(keys int) bool {
	if s.signatures > 0 && s.signatures+keys > maxSignatures {
		s.setTooLarge()
		return false
	}
	s.signatures += keys
	return true
}

// seen returns when a token of a subject was seen first, that is read now: when the
// token was that it renews, if it renews one.
func (s *Session) seen(subject []byte) time.Time {
	first := s.At
	for i := range s.renewed {
		if c := &s.renewed[i].Claims; bytes.Equal(c.Subject, subject) && !c.SeenAt.IsZero() && c.SeenAt.Before(first) {
			first = c.SeenAt
		}
	}
	return first
}

func (s *Session) setTooLarge() {
	s.Tokens, s.Failure, s.TooLarge = nil, TooLarge, true
}

// moreImportant returns the more important of two failures; either may be
// empty.
func moreImportant(a, b Failure) Failure {
	if b == "" {
		return a
	}
	order := []Failure{"", Undecodable, Expired, KeysUnavailable}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}
