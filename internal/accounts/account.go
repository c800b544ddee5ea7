// Package accounts is the engine in front of a directory: it caches the
// accounts of users, joins lookups into batches, confirms an absence before a
// session ends, re-checks the accounts in use when something has changed, and
// keeps requests from waiting while the directory is away.
package accounts

import (
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// Account is what is known of a subject. It must not be copied: what it holds
// points into it.
type Account struct {
	directories.Account
	record
}

// noneLive reports whether no session of an account can be live.
func noneLive(a *directories.Account) bool {
	return !a.Exists || a.Disabled && !slices.ContainsFunc(a.Others, func(other directories.Account) bool { return !other.Disabled })
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
