// Package accounts is the engine in front of a directory: it caches the
// accounts of users, joins lookups into batches, confirms an absence before a
// session ends, re-checks the accounts in use when something has changed, and
// keeps requests from waiting while the directory is away.
package accounts

import (
	"bytes"
	"slices"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// Account is what is known of a subject. It must not be copied: what it holds
// points into it.
type Account struct {
	directories.Account
	record
}

// Doubted reports whether the directory was asked again meanwhile, and has answered, but
// without a proof: row-level security hides the row now, say. The account may have changed,
// and must not end a session.
func (a *Account) Doubted() bool { return a.doubted }

// noneLive reports whether no session of an account can be live.
func noneLive(a *directories.Account) bool {
	return !a.Exists || a.Disabled && !slices.ContainsFunc(a.Others, func(other directories.Account) bool { return !other.Disabled })
}

// equals reports whether sessions are judged by two accounts alike.
func (a *Account) equals(b *Account) bool {
	return alike(&a.Account, &b.Account) && slices.EqualFunc(a.Others, b.Others, func(a, b directories.Account) bool { return alike(&a, &b) })
}

func alike(a, b *directories.Account) bool {
	return a.Exists == b.Exists && a.Disabled == b.Disabled && same(a.CreatedAt, b.CreatedAt) && same(a.ValidAfter, b.ValidAfter) &&
		slices.EqualFunc(a.Matched, b.Matched, func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) })
}

// same compares times as precisely as they are kept.
func same(a, b time.Time) bool {
	return a.IsZero() == b.IsZero() && (a.IsZero() || a.UnixMicro() == b.UnixMicro())
}

// Source says where an account came from.
type Source string

// The sources of an account.
const (
	// FromCache is an account that was looked up a short while ago.
	FromCache Source = "cache"
	// FromDatabase is an account that was looked up for this request.
	FromDatabase Source = "database"
	// FromFallback is the last known account, used while the directory is away.
	FromFallback Source = "fallback"
	// FromRevocation is no account: the session was revoked.
	FromRevocation Source = "revocation"
)
