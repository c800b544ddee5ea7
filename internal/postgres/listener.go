package postgres

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// channel is what the triggers notify.
	channel = "stale_session"
	// echoEvery is how often the channel is tested.
	echoEvery = 30 * time.Second
	// echoWithin is how soon an echo has to arrive.
	echoWithin = 2 * time.Second
	// maxOthers is how many echoes of other directories are remembered.
	maxOthers = 16
)

// notification is the payload of a notification, as JSON.
type notification struct {
	// IDs are the users that were deleted or changed; none for all.
	IDs []string `json:"ids"`
	// Echo is the test message of a directory, sent in a transaction.
	Echo        string `json:"echo"`
	Transaction string `json:"transaction"`
	// Others reports that another table has changed, see Directory.Subscribe.
	Others bool `json:"others"`
}

// listenerState says whether notifications can be relied on.
type listenerState int32

const (
	// unknown: the server is a standby, or the channel was not tested yet.
	unknown listenerState = iota
	// blocked: notifications do not arrive, as behind a transaction pooler.
	blocked
	// noTriggers: they arrive, but the users table has no triggers.
	noTriggers
	// active: changes are notified.
	active
)

// listener listens for notifications on the connection of a watch.
type listener struct {
	w         *watch
	listening bool
	known     bool // whether there are triggers
	triggers  bool
	echo      string      // that was sent last
	pending   bool        // it has not arrived
	sent      time.Time   // when
	by        chan string // the transaction that has sent it
	others    []string    // those of the last echoes that have arrived
	arrives   bool        // the last echo has arrived
}

// open begins to listen.
func (l *listener) open(ctx context.Context) error {
	l.w.d.state.Store(int32(unknown))
	_, err := l.w.conn.Exec(ctx, "listen "+channel)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && !l.w.conn.IsClosed() { // a standby, or no Postgres: it is polled
		return nil
	}
	l.listening = err == nil
	return err
}

// close forgets what is known of the channel.
func (l *listener) close() { l.w.d.state.Store(int32(unknown)) }

// hear takes a notification. It is called while the connection is read.
func (l *listener) hear(_ *pgconn.PgConn, n *pgconn.Notification) {
	if n.Channel != channel {
		return
	}
	var message notification
	if json.Unmarshal([]byte(n.Payload), &message) != nil {
		return
	}
	switch {
	case message.Echo != "":
		if message.Echo == l.echo { // also if it is late
			l.pending, l.arrives = false, true
			l.conclude()
		}
		if l.others = append(l.others, message.Transaction); len(l.others) > maxOthers {
			l.others = l.others[1:]
		}
	case message.Others:
		l.w.others = true
	default:
		l.w.changed(message.IDs...)
	}
}

// try tests once in a while that notifications arrive: another connection sends
// one, because a pooler may return to a connection what that one has sent
// itself.
func (l *listener) try() {
	if !l.listening {
		return
	}
	now := time.Now()
	if l.pending && now.Sub(l.sent) > echoWithin {
		l.pending, l.arrives = false, false
		l.conclude()
	}
	if now.Sub(l.sent) < l.w.d.echoEvery {
		return
	}
	by := make(chan string, 1)
	l.echo, l.pending, l.sent, l.by = rand.Text(), true, now, by
	d, echo := l.w.d, l.echo
	go func() {
		ctx, cancel := context.WithTimeout(d.running, queryTimeout)
		defer cancel()
		by <- d.sendEcho(ctx, echo)
	}()
}

// echoSQL sends an echo, and returns the transaction that does.
const echoSQL = `select pg_current_xact_id()::text
from pg_notify($1, json_build_object('echo', $2::text, 'transaction', pg_current_xact_id()::text)::text)`

// sendEcho sends an echo, and returns the transaction that does. If it fails, no
// echo arrives.
func (d *Directory) sendEcho(ctx context.Context, echo string) (transaction string) {
	conn, err := d.lookups.acquire(ctx, d.pool)
	if err != nil {
		return ""
	}
	defer conn.Release()
	_ = conn.QueryRow(ctx, echoSQL, channel, echo).Scan(&transaction)
	return transaction
}

// explains reports whether the gate has changed by nothing but the transactions
// that have sent echoes: the last one of this directory, and those of others,
// in other instances of Caddy before the same server.
func (l *listener) explains(before, after string) bool {
	transactions := l.others
	select {
	case transaction := <-l.by:
		transactions, l.by = append(transactions, transaction), nil
	default: // it is still being sent, or there is none
	}
	l.others = nil
	for range transactions { // in whatever order they come
		for _, transaction := range transactions {
			if next := withTransaction(before, transaction); next != "" {
				before = next
			}
		}
	}
	return before == after
}

// withTransaction is the gate of a primary once a transaction is done, and
// nothing else, empty when that is not the next one to begin. A snapshot is
// xmin:xmax:xip, where xmax is the next, and xip are those under way.
func withTransaction(gate, transaction string) string {
	kind, rest, _ := strings.Cut(gate, " ")
	snapshot, started, _ := strings.Cut(rest, " ")
	parts := strings.Split(snapshot, ":")
	n, err := strconv.ParseUint(transaction, 10, 64)
	if err != nil || len(parts) != 3 || parts[1] != transaction {
		return ""
	}
	next := strconv.FormatUint(n+1, 10)
	if parts[1] = next; parts[2] == "" {
		parts[0] = next
	}
	return kind + " " + strings.Join(parts, ":") + " " + started
}

// know records whether the users table has triggers.
func (l *listener) know(triggers bool) {
	l.known, l.triggers = true, triggers
	if l.arrives {
		l.conclude()
	}
}

// conclude logs whether notifications can be relied on, if that has changed.
func (l *listener) conclude() {
	now := blocked
	switch {
	case l.arrives && l.triggers:
		now = active
	case l.arrives && l.known:
		now = noTriggers
	case l.arrives:
		return // it will be known in a moment
	}
	d := l.w.d
	if listenerState(d.state.Load()) == now {
		return
	}
	// The line comes before the state, so that who sees the state finds the line.
	switch now {
	case active:
		d.log().Info("change notifications work")
	case noTriggers:
		d.log().Info("no change triggers on the users table; changes are noticed within the poll interval; `caddy stale-session install` adds triggers")
	case blocked:
		d.log().Warn("change notifications do not arrive, as behind a transaction pooler; changes are noticed within the poll interval; set `listen_database` to the direct address")
	}
	d.state.Store(int32(now))
}
