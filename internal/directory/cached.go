package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// cachedWorkers is how many lookups of a Finder are under way at a time. Each
// is of all subjects that wait.
const cachedWorkers = 2

// Cached is a directory in any place that a Finder finds accounts in. It keeps
// them for a while, joins lookups that wait at a time, and bears it when the
// place is away. It is safe for use by several goroutines.
type Cached struct {
	backend

	finder    Finder
	failedOn  atomic.Pointer[string] // a subject to try the place with
	watches   bool
	connected atomic.Bool  // changes are heard of
	since     atomic.Int64 // what was looked up before may have changed
	heard     atomic.Uint64
}

// OpenCached opens a directory in the place that a Finder knows. It does not
// use it yet. Of the configuration it takes what is not about Postgres.
func OpenCached(finder Finder, config Config) *Cached {
	c := &Cached{finder: finder}
	_, c.watches = finder.(Watcher)
	c.use(c, config)
	c.open(cachedWorkers)
	return c
}

// Close ends what runs in the background, and the Finder if it can be closed.
func (c *Cached) Close() error {
	c.end()
	var err error
	if closer, ok := c.finder.(io.Closer); ok {
		err = closer.Close()
	}
	c.ended.Wait()
	c.accounts.cache.Close()
	return err
}

// String implements Directory.
func (c *Cached) String() string { return c.finder.String() }

// Braking implements Directory: there is no brake.
func (c *Cached) Braking() bool { return false }

// Stats implements Directory.
func (c *Cached) Stats() Stats {
	s := c.stats()
	s.Watching, s.Notifications = c.connected.Load(), c.heard.Load()
	s.Notified = s.Watching
	return s
}

// Lookup implements Directory, as Postgres does.
func (c *Cached) Lookup(ctx context.Context, query Query, account *Account) (Source, error) {
	key, now := query.Subject, c.instant(query.Now)
	if !plausible(key) {
		*account = Account{AsOf: query.Now}
		return FromDatabase, nil
	}
	known := c.known(key, query, account)
	if known && c.fresh(account, now) {
		c.refresh(key, account, now)
		return FromCache, nil
	}
	found, err := c.ask(ctx, key, query)
	return c.answer(found, err, known, now, account)
}

// fresh tells whether an account can be used without asking again.
func (c *Cached) fresh(a *Account, now instant) bool {
	if int64(a.asked) < c.since.Load() {
		return false
	}
	ttl := c.ttl(a)
	if c.watches && !c.connected.Load() {
		ttl = min(ttl, unwatchedTTL)
	}
	return now-a.asked < ttl
}

// find implements place.
func (c *Cached) find(ctx context.Context, calls []*call) ([]finding, error) {
	subjects, found := make([]string, len(calls)), make([]finding, len(calls))
	for i, call := range calls {
		key := []byte(call.subject)
		subjects[i], found[i] = call.subject, finding{key: key, generation: c.accounts.generation(key)}
	}
	began := c.now()
	all, err := c.findTwice(ctx, subjects)
	if err != nil {
		c.failedOn.Store(&subjects[0])
		return nil, c.failure(err)
	}
	for i, one := range all {
		if one.Failure != nil {
			found[i].err = c.failure(one.Failure)
		}
		found[i].account = one.account(began, c.instant(began))
	}
	return found, nil
}

// try implements place, with a subject that could not be looked up.
func (c *Cached) try(ctx context.Context) error {
	_, err := c.findTwice(ctx, []string{*c.failedOn.Load()})
	return c.failure(err)
}

// down implements place. A server that answers, but not for somebody who is not
// there, is not away for the others. What else a failure can be, a Finder need
// not tell.
func (c *Cached) down(err error) bool { return classOf(err) != Standby }

// findTwice asks for subjects, and once more for those who are not there: a
// session must not end by what was seen in the middle of a change.
func (c *Cached) findTwice(ctx context.Context, subjects []string) ([]Found, error) {
	found, err := c.findOnce(ctx, subjects)
	if err != nil {
		return nil, err
	}
	var absent []int
	var again []string
	for i, subject := range subjects {
		if f := &found[i]; !f.Exists && f.Failure == nil {
			absent, again = append(absent, i), append(again, subject)
		}
	}
	if len(again) == 0 {
		return found, nil
	}
	second, err := c.findOnce(ctx, again)
	if err != nil {
		return nil, err
	}
	for i, at := range absent {
		found[at] = second[i]
	}
	return found, nil
}

func (c *Cached) findOnce(ctx context.Context, subjects []string) ([]Found, error) {
	found, err := c.finder.Lookup(ctx, subjects)
	if err == nil && len(found) != len(subjects) {
		err = fmt.Errorf("%s has answered for %d of %d subjects", c, len(found), len(subjects))
	}
	return found, err
}

// failure makes an Error of one of the Finder's.
func (c *Cached) failure(err error) error {
	var known *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	}
	class := Other
	if errors.Is(err, context.DeadlineExceeded) {
		class = Slow
	}
	return &Error{Class: class, text: err.Error()}
}

// NewError returns a failure of a class, whose text says what to do.
func NewError(class Class, text string) *Error { return &Error{Class: class, text: text} }

// account is what was found as an account.
func (f Found) account(now time.Time, asked instant) *Account {
	a := &Account{Exists: f.Exists, AsOf: now}
	if f.Exists {
		a.Disabled, a.CreatedAt, a.ValidAfter, a.Columns = f.Disabled, f.CreatedAt, f.ValidAfter, f.Matched
	}
	a.asked = asked
	return a
}

// startWatch implements place.
func (c *Cached) startWatch() {
	if watcher, ok := c.finder.(Watcher); ok {
		c.background(func() { c.watch(watcher) })
	}
}

// watch has the Finder tell of changes until the directory is closed.
func (c *Cached) watch(watcher Watcher) {
	for retry := minRetry; ; retry = min(2*retry, maxRetry) {
		err := watcher.Watch(c.running, func(subjects ...string) {
			c.heard.Add(1)
			if len(subjects) > 0 {
				for _, subject := range subjects {
					c.accounts.drop([]byte(subject))
				}
				return
			}
			// They stay what was known last: it may be that the place is away.
			c.since.Store(int64(c.instant(c.now())))
			c.accounts.outdate()
			retry = minRetry
			c.connected.Store(true)
			c.journal.watched()
		})
		c.connected.Store(false)
		if c.running.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the watch has ended")
		}
		c.journal.unwatched(c.failure(err))
		if !c.pause(retry/2 + rand.N(retry/2)) { //nolint:gosec // no secret
			return
		}
	}
}
