// Package directory looks accounts up: what the app's database says of the
// subject that a session names.
package directory

import (
	"context"
	"time"
)

// Account is what the database says of a subject. The zero value is a subject
// that has no row.
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

	// AsOf is when the database was asked.
	AsOf time.Time

	// Columns holds, by column name, the values of the columns to be matched
	// with claims, as text. A NULL has no entry.
	Columns map[string]string
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
)

// Directory is a place where accounts are looked up.
type Directory interface {
	// Lookup finds the account of a subject, and tells where it came from. What
	// is known from before since is not good enough; the zero time takes
	// anything that is fresh. An error means that nothing could be found out:
	// it never means that the account is gone.
	Lookup(ctx context.Context, subject string, since time.Time) (Account, Source, error)
}
