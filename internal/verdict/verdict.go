// Package verdict decides, without any I/O, whether a session may go on: it
// holds what a token claims against what the database says of its subject.
package verdict

import (
	"bytes"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/clocks"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// Verdict is what is decided about a session.
type Verdict string

// The verdicts.
const (
	// Live is a session whose subject exists and may go on.
	Live Verdict = "live"
	// Stale is a session that must end; a Reason says why.
	Stale Verdict = "stale"
	// Anonymous is a request without a session.
	Anonymous Verdict = "anonymous"
	// Invalid is a request whose session cookies hold no token of the app, or
	// an expired one.
	Invalid Verdict = "invalid"
	// Unknown is a session of which nothing could be found out. It is never
	// treated as stale.
	Unknown Verdict = "unknown"
)

// Reason tells why a session is stale.
type Reason string

// The reasons.
const (
	// UserNotFound: the subject has no row.
	UserNotFound Reason = "user_not_found"
	// UserDisabled: the row is disabled, banned or soft-deleted.
	UserDisabled Reason = "user_disabled"
	// TokenPredatesAccount: the token is older than the account, so its
	// subject was somebody else's id.
	TokenPredatesAccount Reason = "token_predates_account"
	// TokenRevoked: the token is older than the account's "valid after" time,
	// or its subject's sessions were ended by hand since.
	TokenRevoked Reason = "token_revoked"
	// ClaimMismatch: a claim of the token no longer equals its column.
	ClaimMismatch Reason = "claim_mismatch"
)

// Reasons lists the reasons.
var Reasons = []Reason{UserNotFound, UserDisabled, TokenPredatesAccount, TokenRevoked, ClaimMismatch}

// Leeway is how much older than a time in the database a token may be without
// being stale by it, at most. Tokens hold whole seconds, databases fractions, and
// the clocks of app and database differ.
const Leeway = clocks.MaxLeeway

// Times say how the times of a token and of an account compare.
type Times struct {
	// Now is the time of the request.
	Now time.Time
	// Clocks is what is known of the clocks that wrote them; nil for nothing.
	Clocks *clocks.Known
	// Replaced reports whether the token was seen while its subject had an earlier
	// account.
	Replaced bool
}

// Judge decides about a session that claims c, whose subject has the account
// a. The result is Live or Stale. Each claim to match must equal the value in the
// same place. If the subject has several accounts, the session is live if it is
// by any of them.
//
// A time more than five minutes ahead of now is ignored, and so are the time rules
// for a token that does not say when it was issued. A claim that the token lacks is
// not matched. Letter case is ignored when a claim is matched, as e-mail addresses
// are written either way.
func Judge(c *session.Claims, a *directories.Account, times Times) (Verdict, Reason) {
	if !a.Exists {
		return Stale, UserNotFound
	}
	reason := endedBy(c, a, &times)
	for i := range a.Others {
		if reason == "" {
			break
		}
		reason = endedBy(c, &a.Others[i], &times)
	}
	if reason != "" {
		return Stale, reason
	}
	return Live, ""
}

// endedBy returns why an account ends a session; empty if it does not.
func endedBy(c *session.Claims, a *directories.Account, times *Times) Reason {
	switch {
	case a.Disabled:
		return UserDisabled
	case times.predates(c, a.CreatedAt):
		return TokenPredatesAccount
	case times.revokes(c, a.ValidAfter):
		return TokenRevoked
	}
	for i, claim := range c.Match {
		if claim != nil && (i >= len(a.Matched) || a.Matched[i] == nil || !bytes.EqualFold(claim, a.Matched[i])) {
			return ClaimMismatch
		}
	}
	return ""
}
