// Package directories is the contract of a place where users are: what a
// module of the namespace http.handlers.stale_session.directories implements.
//
// The engine in front of a directory does everything else: it caches accounts,
// joins lookups into batches, confirms an absence before a session ends, stops
// asking a directory that is away, and re-checks the accounts in use when
// something has changed. The Postgres and Redis that come with the module use
// nothing but what is in this package.
package directories

import (
	"context"
	"time"
)

// Namespace holds the modules that look users up.
const Namespace = "http.handlers.stale_session.directories"

// Query asks for the account of one subject.
type Query struct {
	// Subject is the user id that a session names, as the token spells it. It
	// can be any text.
	Subject []byte

	// Since asks for an answer that includes every change made before that time.
	// The zero time accepts the answer of a replica that may lag. The engine
	// sets it to confirm what would end a session.
	Since time.Time
}

// Account is what a directory knows of a subject. The zero value is a subject
// that does not exist.
type Account struct {
	// Exists reports whether the subject has an account.
	Exists bool

	// Disabled reports whether the account is disabled, banned or soft-deleted.
	Disabled bool

	// CreatedAt is when the account was created; zero if unknown.
	CreatedAt time.Time

	// ValidAfter is the time before which none of its sessions is valid; zero
	// for none.
	ValidAfter time.Time

	// Matched holds the values that the claims of Module.MatchedClaims must
	// equal, in the same order; nil for no value.
	Matched [][]byte

	// Replica reports whether a replica answered, which may lag behind. AsOf is
	// then the time up to which it has all changes; zero if unknown. Without
	// Replica, AsOf may stay zero: the answer was true when it was given.
	Replica bool
	AsOf    time.Time

	// Unconfirmed reports whether the directory may find another account of the
	// subject, or none, when it confirms (Query.Since). A session that this one
	// would end is looked up once more.
	Unconfirmed bool

	// Server identifies the server that answered, where there are several:
	// what it says is trusted as long as the Gate of that server stays closed.
	Server string

	// Others are further accounts of the same subject, if its id is not unique:
	// a session is live if it is by any of them. They have no Others of their own,
	// and of the fields below Matched none counts.
	Others []Account

	// Failure is why this subject alone could not be looked up. Its session
	// passes unchecked.
	Failure error
}

// Directory looks users up. Several goroutines use it at once. If it has a
// Close method (io.Closer), that is called once no configuration uses the
// directory.
type Directory interface {
	// Lookup answers each query, in their order. "Does not exist" ends sessions:
	// it must come from where the truth is. Whatever keeps the answer from being
	// known is an error, best an *Error, and then no session ends. Errors are
	// logged: they say what to do, and hold no subject and no password.
	Lookup(ctx context.Context, queries []Query) ([]Account, error)

	// String names the directory, without a user or a password: "ldap at
	// ldap.example.com".
	String() string
}

// Module is a Caddy module of Namespace.
type Module interface {
	// OpenDirectory returns the directory, without connecting. It outlives the
	// configuration: handlers whose modules have the same JSON share one across
	// reloads, so it must not keep the context that the module was provisioned
	// with.
	OpenDirectory() (Directory, error)

	// MatchedClaims returns the claims that Account.Matched has values for,
	// sorted; nil for none.
	MatchedClaims() []string
}

// Resolver is a Module whose options have placeholders. Handlers share its
// directory only while Resolved returns the same text, which stays secret.
type Resolver interface {
	// Resolved returns the options as they are now. An error is one of the
	// configuration.
	Resolved() (string, error)
}

// Normalizer is a Directory that takes several spellings of one subject, such
// as a UUID in upper and lower case.
type Normalizer interface {
	// Normalize returns the one spelling that the account is cached under, and
	// that Watch reports. It is called for every request: it must be fast, and
	// may return the subject itself.
	Normalize(subject []byte) []byte
}

// Explainer is a Directory that can guess why many users are gone at once.
type Explainer interface {
	// Explain returns the likely reason, for the log.
	Explain(ctx context.Context) string
}

// Describer is a Directory that reports its state.
type Describer interface {
	// Describe returns the state. It does not wait.
	Describe() Description
}

// Description is the state of a directory, as the status command shows it.
type Description struct {
	// Users says where the users are and which columns are read; empty until
	// that is known.
	Users string
	// Notified reports whether changes are reported at once.
	Notified bool
	// Advice is what the operator should do, although lookups work; empty for
	// nothing.
	Advice string
	// Connections counts open connections for lookups, Busy those in use.
	Connections, Busy int32
}
