// Package formats is the contract of a session format: how the sessions of one
// library are found in a request, verified and read. It is what a module of the
// namespace http.handlers.stale_session.formats implements.
//
// The reader in front of a format does everything else: it parses the Cookie
// fields, bounds their size and what a request can cost, remembers what was decoded
// and what could not be, has the user looked up, and clears the cookies of a session
// that ends.
package formats

import (
	"errors"
	"time"
)

// Namespace holds the modules that read sessions.
const Namespace = "http.handlers.stale_session.formats"

// Module is a Caddy module that reads the sessions of one library.
type Module interface {
	// OpenFormat returns the format, with its keys from the module's options, else
	// from the environment. Without any the error wraps ErrNoKey, and says what to
	// set: the format is then off, unless it is configured. All that the format
	// depends on must be in the module's JSON, or come from the environment:
	// handlers for which that is the same share one.
	OpenFormat(environment Environment) (Format, error)
}

// Environment is where a format gets its keys from.
type Environment interface {
	// Fill replaces the placeholders in the value of an option, such as
	// {env.SESSION_SECRET}. An unknown or empty one is an error, which names the
	// option and never a value.
	Fill(option, text string) (string, error)
	// Variable returns an environment variable of Caddy, without spaces around it;
	// empty if it is not set.
	Variable(name string) string
	// Verifier returns what verifies JSON Web Tokens by some keys.
	Verifier(keys Keys) (Verifier, error)
}

// Keys verify signed JSON Web Tokens. Their placeholders must be filled.
type Keys struct {
	// Secrets verify HS256, HS384 and HS512. Default: none.
	Secrets []string
	// JWKS is the URL or the file of a JSON Web Key Set, which verifies the RS, PS and
	// ES algorithms and EdDSA. A URL is fetched in the background. Default: none.
	JWKS string
	// Type is the typ that tokens may have besides JWT. Default: at+jwt.
	Type string
}

// Verifier verifies signed JSON Web Tokens.
type Verifier interface {
	// Verify returns the claims of a token whose signature is valid; numbers are
	// json.Number. It does not check the claims. The error is ErrInvalid or
	// ErrKeysUnavailable.
	Verify(token string) (map[string]any, error)
	// Generation changes whenever other keys may verify a token than before.
	Generation() uint64
}

// Format reads the sessions of one library. It is safe for concurrent use, and
// bounds the time and the memory that it takes for any input.
type Format interface {
	// Owns reports whether a cookie belongs to a session, whole or as a chunk.
	// Others that begin with the same name do not. The name is trimmed, the value as
	// it was sent, empty for a cookie that a response deletes. It is called for each
	// cookie of each request, so it costs next to nothing and does not allocate.
	Owns(name, value string) bool
	// Headers are the names of the fields in which the app looks for a session
	// besides Cookie, such as Authorization, in canonical form.
	Headers() []string
	// Readings returns every way in which the app, in any release, may read a
	// session from the parts of a request or response, the likeliest first. It
	// verifies nothing. A session that cannot be told from others, such as the first
	// and the last of two cookies with one name, has a reading each.
	Readings(parts []Part) []Reading
	// Decode verifies the text of a reading. The error is ErrInvalid, ErrExpired,
	// ErrNobody or ErrKeysUnavailable.
	Decode(text string, now time.Time) (Session, error)
}

// Keyed is a Format whose keys can change while it is used.
type Keyed interface {
	// Generation changes whenever other keys may verify a text than before: a text
	// that was invalid is then decoded again.
	Generation() uint64
}

// Home is a Format of a library that keeps its users in a table of its own.
type Home interface {
	// UsersTable is the name of that table, with its schema. It is where users are
	// looked up if no table is configured, and no other format is on.
	UsersTable() string
}

// Stored is a Format of a library that may keep its sessions in the app's database or
// in Redis, too. Somebody who signs out elsewhere is signed out there at once, and it
// tells whose a session is that the app looks up itself.
type Stored interface {
	// Store returns where; the zero value is nowhere.
	Store() Store
}

// Store is where sessions are kept.
type Store struct {
	// Table is the name of a table of the app's database, with a schema if it needs
	// one. A session is a row.
	Table string
	// ID is the column of Table that holds Session.ID.
	ID string
	// User, Created and Ends are names of the columns with the user id, the time of
	// sign-in and the time at which the session ends. Of each the first that there is
	// counts. In Redis, they are paths in the JSON of a session.
	User, Created, Ends []string
	// Redis is the address of the Redis in which sessions are, instead of a table, and
	// Key the key of a session there, with {subject} in place of Session.ID.
	Redis, Key string
}

// Part is a cookie or a header field in which a session may stand, or a chunk of
// one.
type Part struct {
	// Header is the name of the field; empty for a cookie.
	Header string
	// Name is the name of the cookie.
	Name string
	// Value is the value, of a cookie with its quotes and percent-escapes decoded.
	Value string
}

// Reading is one way to read a session.
type Reading struct {
	// Text is what Decode gets. Equal texts are decoded once.
	Text string
	// Parts are the indices of all parts that it is read from.
	Parts []int
	// Doubtful are the indices of those that are taken away, and no others, if the
	// session is Doubtful and stale. Default: Parts.
	Doubtful []int
}

// Session is what a verified text says.
type Session struct {
	// Claims is all that it holds. Numbers are json.Number.
	Claims map[string]any
	// Subject is the user id: see Subject. If it is empty, the session is not
	// judged, because nobody knows whose it is.
	Subject string
	// Guessed reports whether nobody has said that users are known by Subject. Such a
	// session does not end because its user is not found, as long as nobody was found
	// in the users table by a session of this format.
	Guessed bool
	// ID identifies the session in the Store; empty if it is in none.
	ID string
	// SignedInAt is when the user signed in, if a renewed session keeps that; zero
	// if it does not.
	SignedInAt time.Time
	// MadeAt is when the text was made; zero if it does not say.
	MadeAt time.Time
	// ExpiresAt is when it ends; zero if it never does.
	ExpiresAt time.Time
	// Canonical is the text without what Decode ignores, as the library has written it:
	// what is remembered then. Anybody can change the rest in many ways. Default: the
	// text itself.
	Canonical string
	// AppAsks reports whether the app itself looks this session up before it counts. It
	// needs no subject: it passes, unless the Store names a user who is gone or
	// disabled.
	AppAsks bool
	// Doubtful reports whether the app may take somebody else for the user, by
	// another part. If the session is stale, Reading.Doubtful are taken off the
	// request, but nobody is signed out.
	Doubtful bool
}

// ErrNoKey means that a format has no key.
var ErrNoKey = errors.New("no key to read its sessions with")

// Errors of Format.Decode and Verifier.Verify.
var (
	// ErrInvalid means that the text is not a session of the app.
	ErrInvalid = errors.New("the session is malformed, or made with another key")
	// ErrExpired means that it was one.
	ErrExpired = errors.New("the session has expired")
	// ErrNobody means that it is a session of the app, in which nobody is signed in.
	ErrNobody = errors.New("nobody is signed in")
	// ErrKeysUnavailable means that the key set has not been fetched yet.
	ErrKeysUnavailable = errors.New("the key set has not been fetched yet")
)
