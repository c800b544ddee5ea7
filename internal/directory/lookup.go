package directory

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Lookup finds the account of a subject: in the cache, else in the database,
// which it waits for no longer than Config.Timeout and until ctx is done. When
// the database cannot be asked, an account that was known up to ten minutes ago
// is returned; that one was absent is not.
func (p *Postgres) Lookup(ctx context.Context, subject string, since time.Time) (Account, Source, error) {
	key, cached, found := p.recall(subject)
	found = found && !cached.AsOf.Before(since)
	if found && p.now().Sub(cached.AsOf) < p.ttl(cached) {
		return cached, FromCache, nil
	}
	flight := key
	if !since.IsZero() { // a lookup that is under way may have begun before
		flight += "\x00" + strconv.FormatInt(since.Unix(), 10)
	}
	account, err := p.ask(ctx, key, flight)
	if err == nil {
		return account, FromDatabase, nil
	}
	if found && cached.Exists && p.now().Sub(cached.AsOf) < lastKnown {
		return cached, FromFallback, nil
	}
	return Account{}, "", err
}

// recall returns the canonical form of a subject, as far as it is known, and
// its entry in the cache.
func (p *Postgres) recall(subject string) (key string, cached Account, found bool) {
	key = subject
	if s := p.statement.Load(); s != nil {
		if canonical, ok := s.id.canonical(subject); ok {
			key = canonical
		}
	}
	cached, found = p.cache.GetIfPresent(key)
	return key, cached, found
}

func (p *Postgres) ttl(account Account) time.Duration {
	if account.Exists {
		return p.config.TTL
	}
	return p.config.AbsentTTL
}

// ask looks a subject up in the database. The query belongs to nobody's
// request: one that hangs up must not cost a connection. While the breaker is
// open nobody waits.
func (p *Postgres) ask(ctx context.Context, subject, flight string) (Account, error) {
	state := p.breaker.State()
	if state == gobreaker.StateOpen {
		return Account{}, errBroken
	}
	done := p.lookups.DoChan(flight, func() (any, error) { return p.fetch(subject) })
	if state == gobreaker.StateHalfOpen {
		return Account{}, errBroken
	}
	timer := time.NewTimer(p.config.Timeout)
	defer timer.Stop()
	select {
	case result := <-done:
		account, _ := result.Val.(Account)
		return account, result.Err
	case <-timer.C:
		return Account{}, &Error{Class: Slow, text: "the database did not answer in time"}
	case <-ctx.Done():
		return Account{}, &Error{Class: Slow, text: "the request ended before the database answered"}
	}
}

// errBroken is the answer while the database is away.
var errBroken = &Error{Class: Down, text: "the database is away"}

// fetch looks a subject up in the database and keeps what it says.
func (p *Postgres) fetch(subject string) (Account, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return Account{}, &Error{Class: Busy, text: "too many lookups are under way"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	account, err := p.breaker.Execute(func() (Account, error) {
		account, err := p.query(ctx, subject)
		return account, classify(err)
	})
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return Account{}, errBroken
	case err != nil:
		p.journal.failed(err)
		return Account{}, err
	}
	p.journal.succeeded()
	return account, nil
}
