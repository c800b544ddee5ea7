package postgres

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
)

// watch is the connection that watches for changes. It is a directories.Gate, and
// listens for the notifications of triggers, if they are installed: these are
// faster, but only the gate shows every change.
type watch struct {
	d        *Directory
	conn     *pgx.Conn
	changed  func(subjects ...string)
	listener listener

	table    string              // the users table, as found last; quoted
	gate     string              // as read last
	reported directories.Reading // to the engine
	others   bool                // other tables may have changed, for subscribers
	reads    uint64              // of the gate
}

// Watch implements directories.Watcher.
func (d *Directory) Watch(ctx context.Context, changed func(subjects ...string)) (directories.Watch, error) {
	if d.yields() {
		return nil, errYielded
	}
	w := &watch{d: d, changed: changed}
	w.listener = listener{w: w}
	ctx, cancel := context.WithTimeout(ctx, 2*deadline.Connect)
	defer cancel()
	var err error
	if w.conn, err = d.listen.connect(ctx, reading, w.listener.receive); err != nil {
		return nil, classify(err)
	}
	d.subscribers.refresh()
	if err := w.listener.open(ctx); err != nil { // before the gate is read, so that no change is missed in between
		_ = w.Close()
		return nil, classify(err)
	}
	d.following.Store(true)
	return w, nil
}

// Close implements directories.Watch.
func (w *watch) Close() error {
	w.d.following.Store(false)
	w.listener.close()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return w.conn.Close(ctx)
}

// Wait implements directories.Watch. It reports notifications as they are
// received.
func (w *watch) Wait(ctx context.Context) error {
	w.listener.test()
	for ctx.Err() == nil {
		if err := w.conn.PgConn().WaitForNotification(ctx); err != nil && (ctx.Err() == nil || w.conn.IsClosed()) {
			return classify(err)
		}
		if err := w.publish(); err != nil {
			return classify(err)
		}
	}
	return nil
}

// bounded runs a query with a timeout.
func (w *watch) bounded(query func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(w.d.running, deadline.Query)
	defer cancel()
	return query(ctx)
}

// gateSQL returns when the server was started; its clock if it is a primary, whose
// clock writes rows; and a value that changes with every commit: the snapshot, or
// on a standby, where that does not change, the replayed position. Before that
// value, it returns whether that does not change either, as on a reader of Amazon
// Aurora.
const gateSQL = `select date_part('epoch', pg_postmaster_start_time()), case when not pg_is_in_recovery() then clock_timestamp() end,
  pg_is_in_recovery() and (pg_last_wal_replay_lsn() is null or to_regproc('pg_catalog.aurora_version') is not null),
  case when pg_is_in_recovery() then 'standby ' || coalesce(pg_last_wal_replay_lsn()::text, '')
  else 'primary ' || pg_current_snapshot()::text end || ' ' || pg_postmaster_start_time()::text`

// Read implements directories.Gate. Echoes do not change its value.
func (w *watch) Read(ctx context.Context) (directories.Reading, error) {
	if w.d.yields() {
		return w.reported, errYielded
	}
	var started float64
	var clock *time.Time
	var stuck bool
	var gate string
	if err := w.conn.QueryRow(ctx, gateSQL).Scan(&started, &clock, &stuck, &gate); err != nil {
		return w.reported, classify(err)
	}
	w.reported.Clock = time.Time{}
	if clock != nil {
		w.reported.Clock = *clock
	}
	if s := w.d.listen.statement.Load(); stuck || s != nil && s.relation.foreign { // its changes are commits on another server
		w.reads++
		gate += " " + strconv.FormatUint(w.reads, 10)
	}
	explained := w.gate != "" && gate != w.gate && w.listener.explains(w.gate, gate)
	if gate != w.gate && !explained {
		w.reported.Value, w.others = gate, true
		if err := w.readEpoch(ctx); err != nil {
			return w.reported, classify(err)
		}
	}
	w.gate, w.reported.Server = gate, strconv.FormatUint(math.Float64bits(started), 16)
	return w.reported, classify(w.publish())
}

// Lookup implements directories.Gate.
func (w *watch) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	if err := w.d.differs(); err != nil {
		return nil, err
	}
	accounts, err := w.d.lookupOn(ctx, w.conn, w.d.listen, queries)
	if err != nil {
		return nil, w.fatal(err)
	}
	return accounts, w.d.differs()
}

// differs returns an error if the connection that watches does not read what
// lookups read: its database, role or search path may differ.
func (d *Directory) differs() error {
	if a, b := d.listen.database.Load(), d.lookups.database.Load(); a != nil && b != nil && *a != *b {
		return &directories.Error{Class: directories.Refused, Text: "`listen_database` is not the same database as `database`: changes are noticed only when cached users expire"}
	}
	here, there := d.listen.statement.Load(), d.lookups.statement.Load()
	if here == nil || there == nil || here.sql == there.sql {
		return nil
	}
	return &directories.Error{Class: directories.Rights, Text: fmt.Sprintf(
		"the role of `listen_database` reads other users than that of `database`, so active users are not re-checked: it reads %s instead of %s; give it the same rights and search_path", here, there)}
}

// fatal converts an error: to class Down if the connection is lost, which ends
// the watch.
func (w *watch) fatal(err error) error {
	if w.conn.IsClosed() {
		return &directories.Error{Class: directories.Down, Text: "the connection to the database failed"}
	}
	return classify(err)
}

// Interface guards
var _ directories.Gate = (*watch)(nil)
