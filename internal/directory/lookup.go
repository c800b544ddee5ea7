package directory

import (
	"context"
	"time"
)

// Lookup finds the account of a subject: in the cache, else in the database,
// which it waits for no longer than Config.Timeout and until ctx is done. When
// the database cannot be asked, an account that was known up to ten minutes ago
// is returned; that one was absent is not.
func (p *Postgres) Lookup(ctx context.Context, query Query, account *Account) (Source, error) {
	key := p.key(query.Subject)
	now := p.instant(query.Now)
	known := p.known(key, query, account)
	if known && p.fresh(account, now) {
		p.used(key, account, now, query.Now)
		return FromCache, nil
	}
	found, err := p.ask(ctx, key, query)
	if err == nil && !p.proves(found, query.Since) {
		err = errStandby
		p.journal.failed(err)
	}
	return p.answer(found, err, known, now, account)
}

// proves tells whether an account that was just looked up says what was true
// at a time. Only of a standby server is that in doubt, which may not have
// heard of a new row yet, nor of a row's change.
func (p *Postgres) proves(a *Account, since time.Time) bool {
	unchanged := a.Exists && (since.IsZero() || p.primary == nil)
	return unchanged || !a.standby || a.AsOf.After(since)
}

// errStandby is the answer when a standby server may not have heard of a change.
var errStandby = &Error{Class: Standby, text: "a standby server has no such user, or another state of it, and may not have heard of a change yet: give the address of the primary too, as in host=standby,primary, and keep that in reach"}

// key returns the form of a subject that it is known by: the canonical one, as
// far as that is known.
func (p *Postgres) key(subject []byte) []byte {
	if s := p.statement.Load(); s != nil {
		if canonical, ok := s.id.canonical(subject); ok {
			return canonical
		}
	}
	return subject
}

// fresh tells whether an account can be used without asking again.
func (p *Postgres) fresh(a *Account, now instant) bool {
	age := now - a.asked
	switch {
	case age >= p.ttl(a):
		return false
	case p.watch == nil:
		return true
	case !p.watch.connected(now):
		return age < unwatchedTTL
	case p.watch.holds(a):
		return true
	case a.Exists && p.watch.unchanged(a) && age < unwatchedTTL: // another server than the watched one has answered
		return true
	}
	// Something was changed since. What is in use is about to be looked up
	// again. When that is over, what was not, because it came into use too late
	// to be listed, is looked up by its request.
	behind := instant(p.watch.behind.Load())
	return a.Exists && a.window != 0 && a.window+1 >= windowOf(now) && behind != 0 && now-behind < maxBehind
}

// used notes that an account is in use, and has it looked up again in the
// background before its time is over.
func (p *Postgres) used(key []byte, a *Account, now instant, clock time.Time) {
	if !a.Exists {
		return
	}
	if window := windowOf(now); p.watch != nil && a.window != window && p.watch.recent.add(window, key) {
		p.accounts.use(key, window, clock)
		p.brake.seen(string(key), a, now)
	}
	p.refresh(key, a, now)
}
