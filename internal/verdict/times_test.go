package verdict

import (
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/clocks"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// TestHowTimesCompare is the table of docs/decisions.md.
func TestHowTimesCompare(t *testing.T) {
	t.Parallel()
	signIn := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	after := func(d time.Duration) time.Time { return signIn.Add(d) }
	const ms = time.Millisecond
	iat := session.Claims{IssuedAt: signIn, MintedAt: signIn}
	seconds := session.Claims{IssuedAt: signIn, MintedAt: after(10 * time.Minute), Lasting: true}
	millis := session.Claims{IssuedAt: after(ms), MintedAt: after(10 * time.Minute), Lasting: true}
	created := func(d time.Duration) directories.Account {
		return directories.Account{Exists: true, CreatedAt: after(d)}
	}
	validAfter := func(d time.Duration) directories.Account {
		return directories.Account{Exists: true, ValidAfter: after(d)}
	}
	measured := func(database, app time.Duration) *clocks.Clocks {
		var c clocks.Clocks
		for i := range 9 {
			began := after(time.Duration(i-600) * time.Second)
			c.Database(began.Add(database), began, began.Add(ms))
			c.App(began.Add(app).Truncate(time.Second), began, began.Add(ms))
		}
		return &c
	}
	agree, ahead := measured(0, 0).Known(), measured(20*time.Second, 0).Known()
	reset := func(c *clocks.Clocks, at time.Duration) *clocks.Known {
		c.Reset(after(at-500*ms), after(at))
		return c.Known()
	}

	for name, c := range map[string]struct {
		claims  session.Claims
		account directories.Account
		times   Times
		reason  Reason
	}{
		"created a minute later": {iat, created(time.Minute), Times{}, ""},
		"and longer":             {iat, created(time.Minute + ms), Times{}, TokenPredatesAccount},
		"created a minute later, with clocks that agree":               {iat, created(time.Minute), Times{Clocks: agree}, ""},
		"created 30 s later, after a reset":                            {iat, created(30 * time.Second), Times{Clocks: reset(measured(0, 0), 29*time.Second)}, TokenPredatesAccount},
		"created 30 s later, after a reset, by clocks nobody measured": {iat, created(30 * time.Second), Times{Clocks: reset(new(clocks.Clocks), 29*time.Second)}, ""},
		"created 30 s later, long after a reset":                       {iat, created(30 * time.Second), Times{Clocks: reset(measured(0, 0), -time.Minute)}, ""},
		"created 30 s later, long before a reset":                      {iat, created(30 * time.Second), Times{Clocks: reset(measured(0, 0), time.Hour)}, ""},
		"created 3 s later, after a reset":                             {iat, created(3 * time.Second), Times{Clocks: reset(measured(0, 0), 2*time.Second)}, ""},
		"created 20 s later by a clock that is ahead, after a reset":   {iat, created(20 * time.Second), Times{Clocks: reset(measured(20*time.Second, 0), 2*time.Second)}, ""},
		"created just after the token was seen with another account":   {iat, created(10 * ms), Times{Replaced: true}, TokenPredatesAccount},
		"created before, although it was seen with another account":    {iat, created(0), Times{Replaced: true}, ""},

		"signed out everywhere 30 s later":                            {iat, validAfter(30 * time.Second), Times{}, ""},
		"signed out everywhere 30 s later, with clocks that agree":    {iat, validAfter(30 * time.Second), Times{Clocks: agree}, TokenRevoked},
		"signed out everywhere 4 s later, with clocks that agree":     {iat, validAfter(4 * time.Second), Times{Clocks: agree}, ""},
		"signed out everywhere 20 s later, by a clock that is ahead":  {iat, validAfter(20 * time.Second), Times{Clocks: ahead}, ""},
		"the same in milliseconds":                                    {millis, validAfter(ms), Times{}, ""},
		"a moment later, in milliseconds":                             {millis, validAfter(3 * ms), Times{}, TokenRevoked},
		"30 s later, in milliseconds":                                 {millis, validAfter(30 * time.Second), Times{Clocks: agree}, TokenRevoked},
		"within the second, in seconds":                               {seconds, validAfter(900 * ms), Times{}, ""},
		"after the second, in seconds":                                {seconds, validAfter(1001 * ms), Times{}, TokenRevoked},
		"a moment later, in milliseconds, by a clock that is ahead":   {millis, validAfter(15 * time.Second), Times{Clocks: ahead}, ""},
		"a minute later, in milliseconds, by a clock that is ahead":   {millis, validAfter(time.Minute), Times{Clocks: ahead}, TokenRevoked},
		"the account is created 30 s after the sign-in that is named": {millis, created(30 * time.Second), Times{Clocks: agree}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.times.Now = after(time.Hour)
			decided, reason := Judge(&c.claims, &c.account, c.times)
			if reason != c.reason || (decided == Stale) != (c.reason != "") {
				t.Errorf("%s %q, want %q", decided, reason, c.reason)
			}
		})
	}
}

// TestRevoked has revocations at noon, by our clock.
func TestRevoked(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	app := func(ahead time.Duration) *clocks.Known {
		var c clocks.Clocks
		came := at(-time.Hour)
		c.App(came.Add(ahead), came, came)
		return c.Known()
	}
	const second = time.Second
	for name, c := range map[string]struct {
		issued, seen time.Time
		made         bool // seen being made
		known        *clocks.Known
		want         bool
	}{
		"made before":                                  {at(-time.Minute), at(time.Hour), false, nil, true},
		"made after":                                   {at(time.Minute), at(time.Hour), false, nil, false},
		"no iat":                                       {time.Time{}, at(time.Hour), false, nil, true},
		"signed in again in the same second":           {at(0), at(400 * time.Millisecond), true, nil, false},
		"made in the same second, elsewhere":           {at(0), at(400 * time.Millisecond), false, nil, true},
		"made in the same second, and seen":            {at(0), at(0), true, nil, true},
		"an app 20 s behind, signed in again":          {at(-15 * second), at(5 * second), true, app(-20 * second), false},
		"an app 20 s behind, made elsewhere":           {at(-15 * second), at(5 * second), false, app(-20 * second), true},
		"an app 20 s behind, made before and seen":     {at(-15 * second), at(-second), true, app(-20 * second), true},
		"an app 20 s behind, whose clock is not known": {at(-15 * second), at(5 * second), false, nil, true},
		"an app 20 s ahead, made before, elsewhere":    {at(15 * second), at(5 * second), false, app(20 * second), true},
		"an app 20 s ahead, made before and seen":      {at(25 * second), at(-second), true, nil, true},
		"an app 20 s ahead, signed in again":           {at(21 * second), at(second), true, app(20 * second), false},
		"an app 20 s ahead, made after, elsewhere":     {at(22 * second), at(2 * second), false, app(20 * second), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims := session.Claims{IssuedAt: c.issued, MintedAt: c.issued, SeenAt: c.seen, Made: c.made}
			if got := Revoked(&claims, noon, c.known); got != c.want {
				t.Errorf("revoked: %t, want %t", got, c.want)
			}
		})
	}
}
