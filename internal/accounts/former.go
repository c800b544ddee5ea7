package accounts

import (
	"sync"
	"time"
)

// maxPeriods is how many periods are remembered.
const maxPeriods = 32

// another is by how much the times of creation of two accounts of one subject
// differ at least. One account may be rounded to another precision.
const another = time.Second

// never is before any lookup.
const never = -instant(24 * time.Hour)

// period is a time during which the gate did not move: what was looked up in it
// held to its end.
type period struct{ from, to instant }

// periods are the last ones.
type periods struct {
	mu  sync.Mutex
	all [maxPeriods]period // a ring
	now int                // the latest one
}

// begin begins a period.
func (p *periods) begin(at instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = (p.now + 1) % maxPeriods
	p.all[p.now] = period{at, at}
}

// extend extends the latest period.
func (p *periods) extend(to instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[p.now].to = max(p.all[p.now].to, to)
}

// until returns until when an account is known to have been as it was looked up.
func (p *periods) until(a *Account) instant {
	if !a.watched {
		return a.asked
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range maxPeriods { // the latest first
		if d := p.all[(p.now-i+maxPeriods)%maxPeriods]; d.from != 0 && d.from <= a.asked {
			return max(a.asked, d.to)
		}
	}
	return a.asked
}

// certain reports whether an account was as it is said to be when it was looked up:
// no replica that lags has answered, and nothing that a confirmation would deny.
func (a *Account) certain() bool { return !a.Replica && !a.AsOf.IsZero() && len(a.Others) == 0 }

// follow takes over what is known of the accounts that the subject had before this
// one: the known one was there until a time.
func (a *Account) follow(known *Account, until instant) {
	former, there := known.former, known.replaced
	switch {
	case known.Exists && known.certain():
		former, there = known.CreatedAt, until
	case known.Exists:
		former, there = time.Time{}, 0
	case known.certain(): // still nobody
		there = until
	}
	switch {
	case former.IsZero() || !a.certain():
	case !a.Exists:
		a.former, a.replaced = former, there
		return
	case a.CreatedAt.After(former.Add(another)):
		a.replaced = there
		return
	}
	if a.Exists && known.Exists && a.CreatedAt.Equal(known.CreatedAt) {
		a.replaced = known.replaced
	}
}

// forgotten returns what remains of an account that may have changed: nothing by
// which a session is judged.
func (a *Account) forgotten(until instant) *Account {
	rest := new(Account)
	rest.asked, rest.window = never, a.window
	switch {
	case !a.Exists:
		rest.former, rest.replaced = a.former, a.replaced
	case a.certain():
		rest.former, rest.replaced = a.CreatedAt, until
	}
	return rest
}

// Replaced reports whether the account of a subject is a later one than that of a
// token, which was seen before the account was created: the id was given to
// somebody else. No clock is needed to tell.
func (e *Engine) Replaced(a *Account, seen time.Time) bool {
	return a.Exists && a.replaced != 0 && !seen.IsZero() && e.instant(seen) < a.replaced
}
