package directory

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// unwatchedTTL is how long an account is used while nobody watches the
	// database for changes.
	unwatchedTTL = instant(5 * time.Second)
	// Accounts are looked up again a tenth of the time at most, over a while,
	// and this long at a time.
	maxDuty  = 10
	maxBurst = time.Second
	// maxBehind is how long after a change an account in use may still wait to
	// be looked up again. Then its request waits instead.
	maxBehind = instant(10 * time.Second)
	// maxRecheck is how many accounts a statement of the watch asks for.
	maxRecheck = maxBatch
	// How long the watch waits before it connects again.
	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second
)

// watch finds out when something was changed in the database, on a connection
// of its own.
//
// It polls a gate: a value that changes with every commit. While it does not,
// all that was looked up since holds. When it has changed, the accounts in use
// are looked up again here, and the others at their next request.
//
// It also listens for the notifications of triggers, where these are
// installed: they tell at once, but never everything.
type watch struct {
	p      *Postgres
	config *pgx.ConnConfig
	recent recent

	// For those who ask for accounts:
	polled atomic.Int64           // when the gate was read last, 0 without a connection
	quiet  atomic.Int64           // since when the gate has been what it is
	behind atomic.Int64           // when the change came whose accounts are being looked up again, 0 for none
	server atomic.Pointer[string] // that the connection leads to

	// For the watch alone:
	gate    string
	epoch   string
	moved   bool    // the accounts in use are to be listed
	movedAt instant // since when
	todo    []string
	credit  time.Duration // how long it may look accounts up
	counted time.Time     // when credit was
	ears    ears

	rechecked, epochs atomic.Uint64
}

// newWatch returns the watch of a directory.
func newWatch(p *Postgres) (*watch, error) {
	address := p.address
	if p.config.ListenDSN != nil {
		dsn, err := p.config.ListenDSN()
		if err != nil {
			return nil, err
		}
		if address, err = readAddress(dsn); err != nil {
			return nil, fmt.Errorf("listen_database: %w", err)
		}
	}
	pooled, err := address.poolConfig()
	if err != nil {
		return nil, err
	}
	w := &watch{p: p, config: pooled.ConnConfig, recent: recent{limit: p.config.Size}, credit: maxBurst}
	w.ears.of(w)
	return w, nil
}

// connected tells whether the watch knows of changes.
func (w *watch) connected(now instant) bool {
	polled := instant(w.polled.Load())
	return polled != 0 && now-polled < instant(w.p.config.Poll)+instant(queryTimeout)+instant(time.Second)
}

// holds tells whether an account is known to be what it was.
func (w *watch) holds(a *Account) bool {
	return a.watched && int64(a.asked) >= w.quiet.Load()
}

// follows tells whether a connection leads to the server that is watched.
func (w *watch) follows(conn *pgx.Conn) bool {
	if w == nil {
		return false
	}
	server := w.server.Load()
	return server != nil && *server == serverOf(conn)
}

func serverOf(conn *pgx.Conn) string { return conn.PgConn().Conn().RemoteAddr().String() }

// run watches until the directory is closed.
func (w *watch) run() {
	for retry := minRetry; ; retry = min(2*retry, maxRetry) {
		began := time.Now()
		err := w.follow()
		w.polled.Store(0)
		w.server.Store(nil)
		if w.p.running.Err() != nil {
			return
		}
		if refusesSettings(err) {
			w.p.unpooled.Store(false)
		}
		w.p.journal.unwatched(err)
		if time.Since(began) > maxRetry {
			retry = minRetry
		}
		if !w.p.pause(retry/2 + rand.N(retry/2)) { //nolint:gosec // no secret
			return
		}
	}
}

// follow connects, and watches until the connection breaks.
func (w *watch) follow() error {
	conn, err := w.connect()
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // it is given up either way
	}()
	// A new connection may lead to another server, and knows nothing of what
	// was changed before. LISTEN goes before the gate, so that nothing is lost
	// in between.
	w.gate, w.todo = "", nil
	if err := w.ears.open(conn); err != nil {
		return err
	}
	for next := time.Now(); ; next = next.Add(w.p.config.Poll) {
		if err := w.ears.listen(conn, next); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(next) > w.p.config.Poll { // it was late: no two polls at once
			next = now
		}
		if err := w.poll(conn); err != nil {
			return err
		}
		if err := w.recheck(conn); err != nil {
			return err
		}
	}
}

func (w *watch) connect() (*pgx.Conn, error) {
	config := w.config.Copy()
	config.OnNotification = w.ears.hear
	if w.p.config.ListenDSN == nil {
		if err := w.p.prepareConnection(w.p.running, config); err != nil {
			return nil, err
		}
	} else {
		settle(config)
	}
	ctx, cancel := context.WithTimeout(w.p.running, 2*connectTimeout)
	defer cancel()
	return pgx.ConnectConfig(ctx, config)
}

// ask runs a query of the watch's own.
func (w *watch) ask(query func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(w.p.running, queryTimeout)
	defer cancel()
	return query(ctx)
}

// counting runs what looks accounts up, and counts the time that it takes.
func (w *watch) counting(work func() error) error {
	began := time.Now()
	err := work()
	w.credit -= time.Since(began)
	return err
}

// earn adds to the time that accounts may be looked up for.
func (w *watch) earn(now time.Time) {
	w.credit = min(w.credit+now.Sub(w.counted)/maxDuty, maxBurst)
	w.counted = now
}

// gateSQL changes with every commit. On a standby a snapshot does not, but
// what it has replayed does.
const gateSQL = `select case when pg_is_in_recovery() then 'standby ' || coalesce(pg_last_wal_replay_lsn()::text, '')
  else 'primary ' || pg_current_snapshot()::text end || ' ' || pg_postmaster_start_time()::text`

// poll reads the gate.
func (w *watch) poll(conn *pgx.Conn) error {
	var gate string
	err := w.ask(func(ctx context.Context) error { return conn.QueryRow(ctx, gateSQL).Scan(&gate) })
	if err != nil {
		return err
	}
	now := w.p.instant(w.p.now())
	if w.gate != "" && gate != w.gate && w.ears.explains(w.gate, gate) {
		w.gate = gate
	}
	if gate != w.gate {
		// What is looked up from now on is not older than the gate.
		w.quiet.Store(int64(now))
		w.gate = gate
		w.move(now)
		if err := w.readEpoch(conn); err != nil {
			return err
		}
	}
	server := serverOf(conn)
	w.server.Store(&server)
	w.polled.Store(int64(now))
	w.p.journal.watched()
	return nil
}

// move notes that the accounts in use are to be looked up again.
func (w *watch) move(now instant) {
	if !w.moved {
		w.moved, w.movedAt = true, now
	}
	w.behind.CompareAndSwap(0, int64(w.movedAt))
}

// recheck looks the accounts in use up again that may have changed, for as
// long as it may.
func (w *watch) recheck(conn *pgx.Conn) error {
	w.earn(time.Now())
	for w.credit > 0 {
		if len(w.todo) == 0 {
			if !w.moved {
				w.behind.Store(0)
				return nil
			}
			w.moved = false
			w.behind.Store(int64(w.movedAt))
			w.todo = w.recent.list(windowOf(w.p.instant(w.p.now())))
		}
		subjects := w.next()
		if len(subjects) == 0 {
			continue
		}
		if err := w.recheckSome(conn, subjects); err != nil {
			return err
		}
	}
	return nil
}

// next takes some subjects that are to be looked up from the list.
func (w *watch) next() []string {
	var subjects []string
	now := w.p.now()
	for len(w.todo) > 0 && len(subjects) < maxRecheck {
		subject := w.todo[0]
		w.todo = w.todo[1:]
		var known Account
		if w.p.accounts.get([]byte(subject), now, &known) && !w.holds(&known) {
			subjects = append(subjects, subject)
		}
	}
	return subjects
}

// recheckSome looks subjects up. One that is not found is dropped: its next
// request looks it up once more before its session ends.
func (w *watch) recheckSome(conn *pgx.Conn, subjects []string) error {
	var found []finding
	err := w.counting(func() error {
		return w.ask(func(ctx context.Context) error {
			var err error
			if found, err = w.p.findOn(ctx, conn, subjects); err == nil {
				w.p.brake.check(ctx, conn, found)
			}
			return err
		})
	})
	switch {
	case err == nil:
	case broken(err) && classOf(err) == Down:
		return err
	default: // nothing is known: the accounts stay what they were
		if classOf(err) == Schema {
			w.p.statement.Store(nil)
		}
		w.move(w.p.instant(w.p.now()))
		w.todo = nil
		w.p.journal.failed(classify(err))
		if conn.IsClosed() {
			return err
		}
		w.credit = min(w.credit, 0)
		return nil
	}
	w.rechecked.Add(uint64(len(found)))
	for _, f := range found {
		if f.account.Exists {
			w.p.keep(f)
		} else {
			w.p.accounts.drop(f.key)
		}
	}
	return nil
}
