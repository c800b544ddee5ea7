package directory

import (
	"context"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Lookup finds the account of a subject: in the cache, else in the database,
// which it waits for no longer than Config.Timeout and until ctx is done. When
// the database cannot be asked, an account that was known up to ten minutes ago
// is returned; that one was absent is not.
func (p *Postgres) Lookup(ctx context.Context, query Query, account *Account) (Source, error) {
	key := p.key(query.Subject)
	now := p.instant(query.Now)
	known := p.accounts.get(key, query.Now, account) && !account.AsOf.Before(query.Since)
	if known && p.fresh(account, now) {
		p.used(key, account, now, query.Now)
		return FromCache, nil
	}
	var after instant // a lookup that is under way may have begun before
	if !query.Since.IsZero() {
		after = now
	}
	found, err := p.ask(ctx, key, after)
	switch {
	case err == nil && found.proves(query.Since):
		account.encoded = found.encode()
		account.decode()
		return FromDatabase, nil
	case err == nil:
		err = errStandby
		p.journal.failed(err)
	}
	if known && account.Exists && now-account.asked < lastKnown {
		return FromFallback, nil
	}
	return "", err
}

// proves tells whether an account that was just looked up says what was true
// at a time. Only of a standby server is that in doubt, which may not have
// heard of a new row yet.
func (a *Account) proves(since time.Time) bool {
	return a.Exists || !a.standby || a.AsOf.After(since)
}

// errStandby is the answer when a standby server has no row, and cannot have
// heard of one.
var errStandby = &Error{Class: Standby, text: "a standby server has no such user, which it may not have heard of yet: give the address of the primary too, as in host=standby,primary"}

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
	age, ttl := now-a.asked, instant(p.config.TTL)
	if !a.Exists {
		ttl = instant(p.config.AbsentTTL)
	}
	switch {
	case age >= ttl:
		return false
	case p.watch == nil:
		return true
	case !p.watch.connected(now):
		return age < unwatchedTTL
	case p.watch.holds(a):
		return true
	}
	// Something was changed since. What is in use is about to be looked up again.
	behind := instant(p.watch.behind.Load())
	return a.Exists && a.window != 0 && a.window+1 >= windowOf(now) && (behind == 0 || now-behind < maxBehind)
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
	if now-a.asked > instant(p.config.TTL)/4*3 && p.breaker.State() == gobreaker.StateClosed {
		p.batch.refresh(string(key))
	}
}

// ask looks a subject up in the database. The query belongs to nobody's
// request: one that hangs up must not cost a connection. While the breaker is
// not closed nobody waits.
func (p *Postgres) ask(ctx context.Context, key []byte, after instant) (*Account, error) {
	p.watching.Do(p.startWatch)
	if p.breaker.State() != gobreaker.StateClosed {
		return nil, errBroken
	}
	call, err := p.batch.join(string(key), after)
	if err != nil {
		p.journal.failed(err)
		return nil, err
	}
	timer := time.NewTimer(p.config.Timeout)
	defer timer.Stop()
	select {
	case <-call.done:
		return call.account, call.err
	case <-timer.C:
		return nil, &Error{Class: Slow, text: "the database did not answer in time"}
	case <-ctx.Done():
		return nil, &Error{Class: Slow, text: "the request ended before the database answered"}
	}
}

// errBroken is the answer while the database is away.
var errBroken = &Error{Class: Down, text: "the database is away"}
