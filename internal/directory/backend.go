package directory

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// DefaultTimeout is how long who asks waits at most, when Config does not say.
const DefaultTimeout = 500 * time.Millisecond

// How lookups are bounded.
const (
	defaultTTL       = 30 * time.Second
	defaultAbsentTTL = 5 * time.Second
	defaultSize      = 100_000
	// lastKnown is how long an account is used while the place cannot be
	// asked.
	lastKnown = instant(10 * time.Minute)
	// queryTimeout bounds a query, which goes on when nobody waits any more.
	queryTimeout = 2 * time.Second
)

// place is where accounts are: a database, or what a Finder knows. Its errors
// are each an *Error.
type place interface {
	// String names it, without a user or a password.
	String() string
	// find looks the subjects of some calls up, and returns as many findings.
	find(ctx context.Context, calls []*call) ([]finding, error)
	// try finds out whether it can be asked.
	try(ctx context.Context) error
	// down tells whether an error is one of the place being away, for which
	// asking again at once is no use.
	down(err error) bool
	// startWatch begins to watch it for changes, if that can be.
	startWatch()
}

// backend asks a place that may be away, for a directory of either kind: what
// was found is kept for a while, lookups that wait at a time are joined, and
// while it is away nobody waits.
type backend struct {
	lifetime

	place    place
	config   Config
	accounts *accounts
	batch    batch
	breaker  *gobreaker.CircuitBreaker[struct{}]
	probing  atomic.Bool
	errAway  *Error // the answer while the breaker is not closed
	watching sync.Once
	journal  journal
	now      func() time.Time
	opened   time.Time
}

// finding is what was found of a subject.
type finding struct {
	key        []byte // the canonical subject
	possible   bool   // that it is an id
	generation uint64
	account    *Account
	err        error // why nothing could be found out about this subject alone
}

// use makes ready for asking a place. It does not ask it yet.
func (b *backend) use(at place, config Config) {
	config.Timeout = cmp.Or(config.Timeout, DefaultTimeout)
	config.TTL = cmp.Or(config.TTL, defaultTTL)
	config.AbsentTTL = min(cmp.Or(config.AbsentTTL, defaultAbsentTTL), config.TTL)
	config.Size = cmp.Or(config.Size, defaultSize)
	b.begin()
	b.place, b.config, b.now, b.opened = at, config, time.Now, time.Now()
	b.journal.logger, b.journal.happened = config.Logger, b.happened
	b.accounts = newAccounts(config.Size, b.opened, max(config.TTL, time.Duration(lastKnown))+time.Minute)
	b.breaker = newBreaker(at)
}

// open lets so many workers look up what waits. The place has its name by now.
func (b *backend) open(workers int) {
	b.errAway = &Error{Class: Down, text: b.place.String() + " is away"}
	b.batch = batch{now: func() instant { return b.instant(b.now()) }, serve: b.serve, workers: workers, open: make(map[string]*call)}
}

// instant is a time on the directory's own clock.
func (b *backend) instant(t time.Time) instant {
	return instant(t.Sub(b.opened).Truncate(time.Microsecond))
}

// Flush forgets all accounts, so that each is looked up again, and returns how
// many there were.
func (b *backend) Flush() int64 { return b.accounts.flush(b.instant(b.now())) }

// known reads what is known of a subject, if that is good enough.
func (b *backend) known(key []byte, query Query, a *Account) bool {
	return b.accounts.get(key, query.Now, a) && !a.AsOf.Before(query.Since)
}

// ttl is how long an account, or the absence of one, is used without asking.
func (b *backend) ttl(a *Account) instant {
	if a.Exists {
		return instant(b.config.TTL)
	}
	return instant(b.config.AbsentTTL)
}

// refresh has an account in use looked up in the background before its time is
// over.
func (b *backend) refresh(key []byte, a *Account, now instant) {
	if a.Exists && now-a.asked > b.ttl(a)/4*3 && !b.away() {
		b.batch.refresh(string(key))
	}
}

// ask looks a subject up. The query belongs to nobody's request: one that hangs
// up must not cost a connection. While the breaker is not closed nobody waits.
func (b *backend) ask(ctx context.Context, key []byte, query Query) (*Account, error) {
	b.watching.Do(b.place.startWatch)
	if b.away() {
		return nil, b.errAway
	}
	var after instant // a lookup that is under way may have begun before
	if !query.Since.IsZero() {
		after = b.instant(query.Now)
	}
	call, err := b.batch.join(string(key), after)
	if err != nil {
		b.journal.failed(err)
		return nil, err
	}
	timer := time.NewTimer(b.config.Timeout)
	defer timer.Stop()
	select {
	case <-call.done:
		return call.account, call.err
	case <-timer.C:
		return nil, &Error{Class: Slow, text: b.place.String() + " did not answer in time"}
	case <-ctx.Done():
		return nil, &Error{Class: Slow, text: "the request ended before there was an answer from " + b.place.String()}
	}
}

// answer answers a lookup with what was found, and with what was known lately
// when there was a failure. That a subject was absent lately is no answer.
func (b *backend) answer(found *Account, err error, known bool, now instant, a *Account) (Source, error) {
	switch {
	case err == nil:
		a.encoded = found.appendTo(a.scratch[:0], b.opened)
		a.decode(b.opened)
		return FromDatabase, nil
	case known && a.Exists && now-a.asked < lastKnown:
		return FromFallback, nil
	}
	return "", err
}

// serve looks the subjects of some calls up, and answers those who wait.
func (b *backend) serve(calls []*call) {
	began := time.Now()
	var found []finding
	err := b.guarded(func(ctx context.Context) (err error) {
		found, err = b.place.find(ctx, calls)
		return err
	})
	// From here on a lookup begins anew: what it must know of may have come
	// after this query.
	b.batch.close(calls)
	if b.config.Observer != nil && err != error(b.errAway) && (err == nil || b.running.Err() == nil) { //nolint:errorlint // it is never wrapped
		b.config.Observer.Asked(len(calls), time.Since(began), err)
	}
	b.note(err)
	for i, c := range calls {
		if c.err = err; err == nil {
			if c.err = found[i].err; c.err != nil {
				b.journal.failed(c.err)
			} else if c.account = found[i].account; !b.keep(found[i]) && b.batch.again(c) {
				continue
			}
		}
		close(c.done)
	}
}

// keep keeps a finding in the cache. It returns false when the account was
// dropped meanwhile, so that it has to be looked up again.
func (b *backend) keep(f finding) bool {
	if f.account.Exists {
		b.journal.found.Store(true)
	} else if !plausible(f.key) {
		return true
	}
	return b.accounts.keep(f.key, f.generation, b.now(), f.account)
}
