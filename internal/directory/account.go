// Package directory looks accounts up: what the app's database says of the
// subject that a session names.
package directory

import "time"

// Account is what the database says of a subject. The zero value is a subject
// that has no row. It must not be copied, because its parts point into it.
type Account struct {
	// Exists tells whether the subject has a row.
	Exists bool

	// Disabled tells whether the row is disabled, banned or soft-deleted.
	Disabled bool

	// CreatedAt is when the row was created, zero when that is not known.
	CreatedAt time.Time

	// ValidAfter is the time before which no session of this account is
	// valid, zero when there is none.
	ValidAfter time.Time

	// AsOf is the time that this was true at: when a primary server was asked,
	// or up to which a standby had heard of its primary's changes; zero when
	// that is not known.
	AsOf time.Time

	// Columns holds the values of Users.Match as text, in their order; nil for
	// a NULL.
	Columns [][]byte

	record
}

// Source tells where an account came from.
type Source string

// The sources of an account.
const (
	// FromCache is an account that was looked up a short while ago.
	FromCache Source = "cache"
	// FromDatabase is an account that was looked up for this request.
	FromDatabase Source = "database"
	// FromFallback is the last known account, used because the database could
	// not be asked.
	FromFallback Source = "fallback"
	// FromRevocation is no account: the session was ended by hand.
	FromRevocation Source = "revocation"
)

// Query is what is asked for.
type Query struct {
	// Subject is the user id that a session names.
	Subject []byte
	// Now is the time of the request.
	Now time.Time
	// Since is a time from before which what is known is not good enough; the
	// zero time takes anything that is fresh.
	Since time.Time
}
