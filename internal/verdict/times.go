package verdict

import (
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/clocks"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// farFuture is how far ahead a time in the database may lie before it is
// ignored: a row "created" hours ahead was written in another time zone.
const farFuture = 5 * time.Minute

// predates reports whether a token is older than an account.
//
// The account of a sign-up is created just before its token, by another clock
// perhaps. So a minute is allowed for, unless all users were replaced meanwhile:
// then as much as the clocks were measured to need, and nothing if the token was
// seen while its subject had an earlier account.
func (t *Times) predates(c *session.Claims, created time.Time) bool {
	older := t.older(c, created)
	switch {
	case older <= 0:
		return false
	case older > clocks.MaxLeeway || t.Replaced:
		return true
	}
	return older > t.Clocks.Leeway(c.IssuedAt) && t.Clocks.ResetBetween(c.IssuedAt, created)
}

// revokes reports whether a token is older than the time since when the sessions of
// its account are valid.
//
// If the token says when its user signed in, the app has written both, and they are
// compared as they stand, to their precision.
func (t *Times) revokes(c *session.Claims, validAfter time.Time) bool {
	older := t.older(c, validAfter)
	switch {
	case older <= 0:
		return false
	case c.Lasting:
		return older > max(precision(c.IssuedAt), precision(validAfter))+t.Clocks.DatabaseAhead()
	}
	return older > t.Clocks.Leeway(c.IssuedAt)
}

// Revoked reports whether a token was made by the time, of our clock, at which the
// sessions of its user were revoked: it was seen before, or is older by its iat. If the
// app was seen making it since, it is as young as the app's clock allows: whoever has
// signed in again stays signed in. Of any other, the clock can only make it older.
func Revoked(c *session.Claims, at time.Time, known *clocks.Known) bool {
	if !c.SeenAt.IsZero() && !c.SeenAt.After(at) {
		return true
	}
	younger := precision(c.IssuedAt) + known.AppBehind()
	if !c.Made {
		younger = min(younger, 0)
	}
	return !c.IssuedAt.Add(younger).After(at)
}

// older returns by how much a token is older than a time in the database; 0 if that
// is not known.
func (t *Times) older(c *session.Claims, mark time.Time) time.Duration {
	if c.IssuedAt.IsZero() || mark.IsZero() || mark.After(t.Now.Add(farFuture)) {
		return 0
	}
	return mark.Sub(c.IssuedAt)
}

// precision is how precise a time is, by its looks.
func precision(t time.Time) time.Duration {
	if t.Nanosecond() == 0 {
		return time.Second
	}
	return time.Millisecond
}
