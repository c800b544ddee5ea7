// Package clocks measures how far the clocks of the app and of the database are
// from ours, so that times that they have written can be compared with each
// other. It does no I/O, and never waits.
package clocks

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a leeway.
const (
	// MaxLeeway is the leeway as long as the clocks are not measured, and the most
	// that they are given.
	MaxLeeway = time.Minute
	// MinLeeway is the least that measured clocks are given: one that was never
	// measured, such as that of a rarely used node, may differ by that much.
	MinLeeway = 5 * time.Second
)

const (
	// second is what the iat of a token leaves out.
	second = time.Second
	// precise is how wide a measurement can be that widens an offset which it does
	// not contradict.
	precise = 2 * time.Second
	// enough is how many tokens make the app's clock a measured one: an app can
	// have several.
	enough = 5
	// maxResets is how many resets are remembered.
	maxResets = 8
)

// Clocks holds the measurements of one directory and of the app that uses it. The
// zero value has none. What was measured once stays: a row or a token from then can
// be judged much later.
type Clocks struct {
	mu    sync.Mutex
	next  Known
	known atomic.Pointer[Known]
}

// Known is what is known of the clocks at a time. It does not change. A nil Known
// knows nothing.
type Known struct {
	// App and Database are the offsets of the clocks that write tokens and rows.
	App, Database Offset
	// rows is how far ahead of ours the creation of a row was dated that existed.
	rows   time.Duration
	resets []reset
}

// Offset is how far a clock is ahead of ours: between Least and Most, over all
// measurements.
type Offset struct {
	Least, Most time.Duration
	// Count is the number of measurements, as far as it matters. Since is the time
	// of the first one.
	Count int
	Since time.Time
}

// reset is a time between two readings at which all users were replaced.
type reset struct{ after, noticed time.Time }

// Database records that the database's clock showed a time between two times of
// ours.
func (c *Clocks) Database(clock, before, after time.Time) {
	c.update(func(k *Known) bool { return k.Database.measure(clock.Sub(after), clock.Sub(before), after) })
}

// App records that the app has made a token between two times of ours, with the
// given iat, which is whole seconds.
func (c *Clocks) App(issued, before, after time.Time) {
	least, most := issued.Sub(after), issued.Add(second).Sub(before)
	if most < -MaxLeeway || least > MaxLeeway { // made earlier, or for later
		return
	}
	c.update(func(k *Known) bool { return k.App.measure(least, most, after) })
}

// Row records that a row existed at a time of ours, and when it was created by what
// it says.
func (c *Clocks) Row(created, now time.Time) {
	ahead := created.Sub(now)
	if ahead <= 0 {
		return
	}
	c.update(func(k *Known) bool {
		before := k.rows
		k.rows = max(k.rows, ahead)
		return k.rows != before
	})
}

// Reset records that all users were replaced between two times of ours.
func (c *Clocks) Reset(after, noticed time.Time) {
	c.update(func(k *Known) bool {
		k.resets = slices.Concat(k.resets[max(0, len(k.resets)-maxResets+1):], []reset{{after, noticed}})
		return true
	})
}

// update changes what is known. Change reports whether it did.
func (c *Clocks) update(change func(*Known) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if change(&c.next) {
		known := c.next
		c.known.Store(&known)
	}
}

// Known returns what is known now; nil for nothing.
func (c *Clocks) Known() *Known { return c.known.Load() }

// measure takes a measurement into account, and reports whether that changes what is
// known. One that is not precise counts only if it proves that there is another
// clock.
func (o *Offset) measure(least, most time.Duration, at time.Time) bool {
	before := *o
	exact, other := most-least <= precise, most < o.Least || least > o.Most
	switch {
	case o.Count == 0 && exact:
		o.Least, o.Most, o.Since = least, most, at
	case o.Count > 0 && (exact || other):
		o.Least, o.Most = min(o.Least, least), max(o.Most, most)
	default:
		return false
	}
	o.Count = min(o.Count+1, enough)
	return *o != before
}

// Measured reports whether there were enough measurements to rely on.
func (k *Known) Measured() bool {
	return k != nil && k.App.Count >= enough && k.Database.Count > 0
}

// Leeway is how much later than the iat of a token a time in the database can be
// that lies before it: as much as the clocks that were measured when it was made
// need, and at most MaxLeeway.
func (k *Known) Leeway(issued time.Time) time.Duration {
	if !k.Measured() {
		return MaxLeeway
	}
	made := issued.Add(-k.App.Most) // or later, by our clock
	rows := max(k.App.Most, k.Database.Most)
	if made.Before(k.App.Since) || made.Before(k.Database.Since) || k.rows > rows+second { // somebody else writes rows
		return MaxLeeway
	}
	return min(max(rows-k.App.Least+second, MinLeeway), MaxLeeway)
}

// AppBehind is how far behind ours the app's clock can be; negative if it is ahead.
// As long as it was not measured, it counts as ours.
func (k *Known) AppBehind() time.Duration {
	if k == nil {
		return 0
	}
	return -k.App.Least
}

// DatabaseAhead is how far ahead of the app's clock that of the database is; 0
// unless that is certain. As long as the app's was not measured, it counts as ours.
func (k *Known) DatabaseAhead() time.Duration {
	if k == nil || k.Database.Count == 0 {
		return 0
	}
	app := k.App
	if app.Count == 0 {
		app.Least, app.Most = -second, second
	}
	if k.Database.Least <= app.Most {
		return 0
	}
	return min(k.Database.Most-app.Least, MaxLeeway)
}

// ResetBetween reports whether all users were replaced between the making of a
// token and the creation of a row, as far as the clocks tell.
func (k *Known) ResetBetween(issued, created time.Time) bool {
	if k == nil {
		return false
	}
	leeway := k.Leeway(issued)
	return slices.ContainsFunc(k.resets, func(r reset) bool {
		return issued.Before(r.noticed.Add(leeway)) && created.After(r.after.Add(-leeway))
	})
}
