package accounts

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/clocks"
)

const (
	// lookupWorkers and confirmWorkers are how many lookups run at a time. Those
	// that no replica may answer have a worker of their own: a primary that hangs
	// must not delay the users that a replica knows.
	lookupWorkers, confirmWorkers = 2, 1
	// lastKnown is how long an account is used while the directory is away.
	lastKnown = instant(10 * time.Minute)
	// closeTimeout is how long Close waits for what runs in the background.
	closeTimeout = time.Second
)

// Engine answers for the accounts of a directory. Several goroutines use it at
// once.
type Engine struct {
	lifetime

	directory directories.Directory
	name      string // of the directory
	normalize func(subject []byte) []byte
	config    Config
	store     *store
	lookups   *batch
	confirms  *batch
	breaker   *gobreaker.CircuitBreaker[struct{}]
	probing   atomic.Bool
	answers   atomic.Bool // the last lookup has succeeded
	starting  sync.Once
	failedOn  atomic.Pointer[string] // what to probe with
	errAway   *directories.Error     // the answer while the circuit is open
	found     atomic.Bool            // some subject was found
	since     atomic.Int64           // accounts that were looked up before may have changed
	watch     watch
	watching  sync.Once
	journal   journal
	brake     brake
	clocks    clocks.Clocks
	now       func() time.Time
	opened    time.Time
}

// Open returns the engine of a directory, which it closes in the end. It does
// not connect.
func Open(directory directories.Directory, config Config) *Engine {
	e := &Engine{directory: directory, name: directory.String(), config: config.withDefaults(), now: time.Now, opened: time.Now()}
	e.begin()
	e.normalize = func(subject []byte) []byte { return subject }
	if n, ok := directory.(directories.Normalizer); ok {
		e.normalize = n.Normalize
	}
	e.journal.logger, e.journal.happened = e.config.Logger, e.happened
	e.store = newStore(e.config.Size, e.opened, max(e.config.TTL, time.Duration(lastKnown))+time.Minute)
	e.breaker = newBreaker()
	e.errAway = &directories.Error{Class: directories.Down, Text: directory.String() + " is not available"}
	now := func() instant { return e.instant(e.now()) }
	e.lookups = newBatch(lookupWorkers, now, func(calls []*call) { e.lookUp(calls, false) })
	e.confirms = newBatch(confirmWorkers, now, func(calls []*call) { e.lookUp(calls, true) })
	e.brake = brake{e: e, share: e.config.BrakeShare, window: instant(e.config.BrakeWindow)}
	e.watch = watch{e: e, recent: recent{limit: e.config.Size}, duty: duty{credit: maxBurst}, streams: streamed{duty: duty{part: maxStreamDuty}}}
	if e.config.Poll > 0 {
		e.watch.watcher, _ = directory.(directories.Watcher)
	}
	return e
}

// Directory returns the directory that the engine asks.
func (e *Engine) Directory() directories.Directory { return e.directory }

// Clocks holds what was measured of the clocks that write accounts and tokens.
func (e *Engine) Clocks() *clocks.Clocks { return &e.clocks }

// String names the directory, without a user or a password.
func (e *Engine) String() string { return e.name }

// Key returns the one spelling of a subject that its account is cached under, as far
// as the directory knows by now.
func (e *Engine) Key(subject []byte) []byte { return e.normalize(subject) }

// Close ends what runs in the background, and closes the directory. It does not
// wait for a server that hangs. What streams were told of may be known to this engine
// alone, so another one judges them then.
func (e *Engine) Close() error {
	e.end()
	if !e.config.Passing {
		defer e.tell(nil)
	}
	closed := make(chan error, 1)
	go func() {
		var err error
		if closer, ok := e.directory.(io.Closer); ok {
			err = closer.Close()
		}
		e.ended.Wait()
		closed <- err
	}()
	defer e.drop()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case err := <-closed:
		return err
	case <-timer.C:
		return nil
	}
}

// drop frees the memory of a closed engine: streams have it for as long as they are open,
// and Caddy's proxies the last requests for minutes.
func (e *Engine) drop() {
	e.store.cache.Close()
	e.watch.recent.clear()
	e.brake.clear()
}

// instant is a time on the engine's own clock.
func (e *Engine) instant(t time.Time) instant {
	return instant(t.Sub(e.opened).Truncate(time.Microsecond))
}

// Flush drops all accounts, so that each is looked up again, and returns how
// many there were.
func (e *Engine) Flush() int64 {
	defer e.tell(nil)
	return e.store.flush(e.instant(e.now()))
}

// ask looks a subject up, and waits at most Config.Timeout. The lookup belongs
// to no request: one that is canceled must not cost a connection. While the
// circuit is open nobody waits.
func (e *Engine) ask(ctx context.Context, key []byte, query Query) (*Account, error) {
	e.StartWatch()
	if e.away() {
		return nil, e.errAway
	}
	// A lookup that is under way may have begun before a change that is known.
	batch, after := e.lookups, instant(max(e.since.Load(), e.watch.quiet.Load()))
	if !query.Since.IsZero() {
		batch, after = e.confirms, e.instant(query.Now)
	}
	call, err := batch.join(string(key), after)
	if err != nil {
		e.journal.failed(err)
		return nil, err
	}
	timer := time.NewTimer(e.config.Timeout)
	defer timer.Stop()
	select {
	case <-call.done:
		return call.account, call.err
	case <-timer.C:
		return nil, e.slow("did not answer in time")
	case <-ctx.Done():
		return nil, e.slow("did not answer before the request ended")
	}
}

func (e *Engine) slow(what string) *directories.Error {
	return &directories.Error{Class: directories.Slow, Text: e.directory.String() + " " + what}
}

// lookUp looks the subjects of some calls up. Those that are not found are
// looked up once more before a session ends, because one lookup may have seen
// the middle of a change, or a replica that lags. Until then, further requests
// for them wait with them.
func (e *Engine) lookUp(calls []*call, confirming bool) {
	began := time.Now()
	found, err := e.serve(calls, confirming)
	if err != nil {
		e.asked(len(calls), began, err)
		e.answer(calls, nil, err)
		return
	}
	var certain, absent []*call
	var answers []result
	for i, c := range calls {
		if f := found[i]; f.err == nil && !f.account.Exists && plausible(f.key) && c.original == nil {
			absent = append(absent, c)
		} else {
			certain, answers = append(certain, c), append(answers, f)
		}
	}
	e.count(answers, began) // the others count once they are confirmed
	e.answer(certain, answers, nil)
	e.answer(e.confirms.confirm(absent), nil, errBusy)
}

// serve looks the subjects of some calls up.
func (e *Engine) serve(calls []*call, confirming bool) ([]result, error) {
	now := e.now()
	queries := make([]directories.Query, len(calls))
	for i, c := range calls {
		queries[i].Subject = []byte(c.subject)
		if confirming {
			queries[i].Since = now
		}
	}
	var found []result
	err := e.guarded(func(ctx context.Context) error {
		var err error
		if found, err = e.find(ctx, e.directory.Lookup, queries); err == nil {
			e.brake.check(ctx, e.directory.Lookup, found, confirming)
		}
		return err
	})
	e.note(calls[0].subject, err)
	if confirming && slices.ContainsFunc(found, func(f result) bool { return f.err == nil && !f.account.Replica }) {
		e.journal.proven()
	}
	return found, err
}

// asked notifies the observer of subjects that were looked up.
func (e *Engine) asked(subjects int, began time.Time, err error) {
	if e.config.Observer != nil && err != error(e.errAway) && (err == nil || e.running.Err() == nil) { //nolint:errorlint // it is never wrapped
		e.config.Observer.Asked(subjects, time.Since(began), err)
	}
}

// count notifies the observer of what a lookup found.
func (e *Engine) count(answers []result, began time.Time) {
	known := 0
	for _, f := range answers {
		if f.err == nil {
			known++
		} else {
			e.asked(1, began, f.err)
		}
	}
	if known > 0 {
		e.asked(known, began, nil)
	}
}

// answer answers those who wait for some calls, or for those that they confirm.
func (e *Engine) answer(calls []*call, found []result, err error) {
	for i, c := range calls {
		if c.original != nil {
			calls[i] = c.original
		}
	}
	// From here on a request starts a new lookup: what it must know may be
	// newer than this answer.
	e.lookups.close(calls)
	e.confirms.close(calls)
	for i, c := range calls {
		if c.err = err; err == nil {
			c.err, c.account = found[i].err, found[i].account
			switch {
			case c.err != nil:
				e.journal.unknown(c.err)
			case !e.keep(found[i]) && c.again():
				continue
			}
		}
		close(c.done)
	}
}

// result is what a lookup found of one subject.
type result struct {
	key        []byte // that it is cached under
	generation uint64 // of the key, before the lookup
	account    *Account
	err        error // why nothing is known of this subject alone
}

// lookup is the method Lookup of a directory or of a gate.
type lookup func(context.Context, []directories.Query) ([]directories.Account, error)

// find makes a lookup.
func (e *Engine) find(ctx context.Context, look lookup, queries []directories.Query) ([]result, error) {
	found := make([]result, len(queries))
	for i, q := range queries {
		key := e.normalize(q.Subject)
		found[i] = result{key: key, generation: e.store.generation(key)}
	}
	began := e.now()
	answers, err := e.call(ctx, look, queries)
	switch {
	case err != nil:
		return nil, classified(err)
	case len(answers) != len(queries):
		return nil, &directories.Error{Class: directories.Other, Text: e.directory.String() + " did not answer each query"}
	}
	accounts := make([]Account, len(answers))
	for i, answer := range answers {
		a := &accounts[i]
		a.Account, a.asked, a.watched = answer, e.instant(began), e.watch.follows(answer.Server)
		if !a.Replica && !a.Unconfirmed {
			a.AsOf = began
		}
		if found[i].account = a; answer.Failure != nil {
			found[i].err = classified(answer.Failure)
		}
		if !answer.CreatedAt.IsZero() {
			e.clocks.Row(answer.CreatedAt, e.now())
		}
	}
	return found, nil
}

// call makes a lookup. One that panics would end Caddy, as no request's goroutine runs it.
func (e *Engine) call(ctx context.Context, look lookup, queries []directories.Query) (answers []directories.Account, err error) {
	defer func() {
		if recover() != nil { // what it was recovered with may hold a secret
			e.config.Logger().Error("a user lookup panicked", zap.String("directory", e.name), zap.Stack("stack"))
			answers, err = nil, &directories.Error{Class: directories.Other, Text: e.name + " panicked; the log has the stack"}
		}
	}()
	return look(ctx, queries)
}

// keep puts a result into the cache. It reports false if the account was
// dropped since the lookup began, so that it has to be looked up again.
func (e *Engine) keep(f result) bool {
	if f.account.Exists {
		e.found.Store(true)
	}
	if !plausible(f.key) || string(e.normalize(f.key)) != string(f.key) { // the directory has learned of another spelling
		return true
	}
	kept, news := e.store.keep(f.key, f.generation, e.now(), f.account)
	if news {
		e.tell(f.key)
	}
	return kept
}

// changed is called by the directory when accounts may have changed.
func (e *Engine) changed(subjects ...string) {
	e.watch.notifications.Add(1)
	if len(subjects) == 0 {
		e.outdate()
		return
	}
	for _, subject := range subjects {
		key := e.normalize([]byte(subject))
		e.store.drop(key, e.now())
		e.tell(key)
	}
}

// outdate has every account looked up again. They remain the last known ones,
// in case that the directory is away.
func (e *Engine) outdate() {
	e.since.Store(int64(e.instant(e.now())))
	e.store.outdate()
	e.tell(nil)
}
