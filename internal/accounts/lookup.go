package accounts

import (
	"bytes"
	"context"
	"time"
	"unicode/utf8"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// Query asks for an account at the time of a request. With Since, neither an
// account that was cached before nor the answer of a replica that may lag is
// good enough.
type Query struct {
	directories.Query
	// Now is the time of the request.
	Now time.Time
	// Ending reports that what is known of the subject would end a session. Then it is
	// used without a lookup only if the watch would have noticed a change of it.
	Ending bool
	// Aside reports that nobody asks: the account does not come into use by it.
	Aside bool
}

// Lookup returns the account of a subject: from the cache, or else from the
// directory, which it waits for at most Config.Timeout and until ctx is done.
// While the directory cannot be asked, an account that existed up to ten minutes
// ago is returned as FromFallback; an absence is returned as long as the watch
// knows that nothing has changed since. See also Account.Doubted.
func (e *Engine) Lookup(ctx context.Context, query Query, account *Account) (Source, error) {
	key := e.normalize(query.Subject)
	now := e.instant(query.Now)
	known := e.store.get(key, query.Now, account) && !account.AsOf.Before(query.Since)
	if known && e.fresh(account, now, query.Ending) {
		if !query.Aside {
			e.used(key, account, now, query.Now)
		}
		return FromCache, nil
	}
	found, err := e.ask(ctx, key, query)
	switch {
	case err == nil && (found.Exists || e.Proves(found, query.Since)):
		account.encoded = found.appendTo(account.scratch[:0], e.opened)
		account.decode(e.opened)
		return FromDatabase, nil
	case err == nil:
		err = errReplica
	}
	switch {
	case known && account.Exists && now-account.asked < lastKnown:
		if answered(err) && !account.doubted {
			account.doubted = true
			e.store.doubt(key, account.asked, query.Now)
		}
		return FromFallback, nil
	case known && !account.Exists && e.watch.watcher != nil && e.watch.connected(now) && e.watch.holds(account):
		return FromCache, nil // nothing has changed since it was confirmed
	}
	return "", err
}

// Proves reports whether what an account says was true after a time, so that it
// may end a session. A replica may not have heard of a new user yet, nor of a
// change of one; that is logged.
func (e *Engine) Proves(a *Account, since time.Time) bool {
	if !a.Replica && !a.Unconfirmed || a.AsOf.After(since) {
		return true
	}
	e.journal.unknown(errReplica)
	return false
}

// errReplica is the answer if a replica may not have heard of a change yet.
var errReplica = &directories.Error{Class: directories.Standby, Text: "a replica has no such user, or another state of it, and may not have heard of a change yet: give the address of the primary (of Postgres, that too: host=standby,primary), and keep it in reach"}

// fresh reports whether an account can be used without a lookup: to end a session, or
// to let one pass.
func (e *Engine) fresh(a *Account, now instant, ending bool) bool {
	age, w := now-a.asked, &e.watch
	switch {
	case age >= e.ttl(a), int64(a.asked) < e.since.Load(), ending && a.doubted:
		return false
	case w.watcher == nil:
		return true
	case !w.connected(now):
		return age < unwatchedTTL
	case w.holds(a):
		return true
	case !ending && w.unchanged(a) && age < unwatchedTTL: // another server than the watched one has answered
		return true
	}
	// Something has changed since, possibly what would end the session. The accounts
	// in use are about to be re-checked. Once that is done, an account that came into
	// use too late to be listed is looked up by its request.
	behind := instant(w.behind.Load())
	return !ending && a.Exists && a.window != 0 && a.window+1 >= windowOf(now) && behind != 0 && now-behind < maxBehind
}

// ttl is how long an account, or an absence, is used without a lookup.
func (e *Engine) ttl(a *Account) instant {
	if a.Exists {
		return instant(e.config.TTL)
	}
	return instant(e.config.AbsentTTL)
}

// used records that an account is in use, and looks it up in the background
// before its time is over.
func (e *Engine) used(key []byte, a *Account, now instant, clock time.Time) {
	window := windowOf(now)
	if a.window != window && (e.watch.watcher != nil || e.brake.share > 0) && e.watch.recent.add(window, key) {
		e.store.use(key, window, clock)
		e.brake.seen(string(key), a, now)
	}
	if a.Exists && now-a.asked > e.ttl(a)/4*3 && !e.away() {
		e.lookups.refresh(string(key))
	}
}

// maxSubject is how long the subject of a cached account can be, in bytes.
const maxSubject = 255

// plausible reports whether a subject can be the id of a user. Any other is
// looked up, but not cached.
func plausible(subject []byte) bool {
	return len(subject) > 0 && len(subject) <= maxSubject && utf8.Valid(subject) && bytes.IndexByte(subject, 0) < 0
}
