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
	// maxBehind is how long after a change an account in use may still wait to
	// be looked up again. Then its request waits instead.
	maxBehind = instant(10 * time.Second)
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
	todo    subjectList
	beside  bool          // those who follow are to be told
	credit  time.Duration // how long it may look accounts up
	counted time.Time     // when credit was
	ears    ears

	rechecked, epochs atomic.Uint64
	resetAt           atomic.Int64 // when the epoch has changed last
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
func (w *watch) holds(a *Account) bool { return a.watched && w.unchanged(a) }

// unchanged tells whether nothing was changed on the watched server since an
// account was looked up.
func (w *watch) unchanged(a *Account) bool { return int64(a.asked) >= w.quiet.Load() }

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
	w.gate, w.todo = "", subjectList{}
	w.p.followers.refresh()
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
		if err := w.tell(conn); err != nil {
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
		// What is looked up from now on is not older than the gate. What is in
		// use is behind before anybody can see that it does not hold.
		w.move(now)
		w.quiet.Store(int64(now))
		w.gate, w.beside = gate, true
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
