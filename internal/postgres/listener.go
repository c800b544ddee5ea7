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

	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
)

const (
	// channel is the channel of the triggers' notifications.
	channel = "stale_session"
	// echoEvery is the interval between two tests of the channel.
	echoEvery = 30 * time.Second
	// echoWithin is how long an echo may take.
	echoWithin = 2 * time.Second
	// echoGrace is how long the watch waits for the transaction of an echo that may
	// have changed the gate.
	echoGrace = 100 * time.Millisecond
	// maxProven is how many transactions of echoes are remembered.
	maxProven = 4
	// maxIDs is how many users a notification of the triggers names at most.
	maxIDs = 50
)

// notification is the payload of a notification, as JSON.
type notification struct {
	// IDs are the users that were deleted or changed; empty for all.
	IDs []string `json:"ids"`
	// Echo identifies a test message, Transaction the transaction that sent it.
	Echo        string `json:"echo"`
	Transaction string `json:"transaction"`
	// Others reports that another table has changed, see Directory.Subscribe.
	Others bool `json:"others"`
}

// listenerState says whether notifications of changes are received.
type listenerState int32

const (
	// unknown: the server is a standby, or the channel has not been tested yet.
	unknown listenerState = iota
	// blocked: none are received, as through a transaction pooler.
	blocked
	// noTriggers: they would be received, but the users table has no triggers.
	noTriggers
	// silent: they would be received, but the triggers must not send any.
	silent
	// active: they are received.
	active
)

// listener listens for notifications on the connection of a watch.
type listener struct {
	w         *watch
	listening bool
	received  bool      // the last echo was received
	known     bool      // triggers and mute are set
	triggers  bool      // the users table has triggers
	mute      bool      // which send nothing
	outdated  bool      // which are of an earlier version; that is logged
	echo      string    // the last one: nobody knows it before it is received
	pending   bool      // it is expected
	sent      time.Time // when it was sent
	// The transaction of the last echo: as the connection that sent it returns it,
	// and as its first notification names it. Further ones may be forged.
	own    chan string
	heard  bool     // there was a first one
	proven []string // the transactions of the last echoes
}

// open starts to listen.
func (l *listener) open(ctx context.Context) error {
	l.w.d.state.Store(int32(unknown))
	_, err := l.w.conn.Exec(ctx, "listen "+channel)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && !l.w.conn.IsClosed() { // a standby, or not quite Postgres: only the gate shows changes
		return nil
	}
	l.listening = err == nil
	return err
}

// close resets the state.
func (l *listener) close() { l.w.d.state.Store(int32(unknown)) }

// receive handles a notification. It is called while the connection is read. Whoever
// may connect to the database can send one: it can cause lookups, nothing else.
func (l *listener) receive(_ *pgconn.PgConn, n *pgconn.Notification) {
	if n.Channel != channel {
		return
	}
	var message notification
	if json.Unmarshal([]byte(n.Payload), &message) != nil {
		return
	}
	switch {
	case message.Echo != "":
		if message.Echo == l.echo { // even if it is late
			if !l.heard {
				l.heard = true
				l.prove(message.Transaction)
			}
			l.pending, l.received = false, true
			l.conclude()
		}
	case message.Others:
		l.w.others = true
	case len(message.IDs) > maxIDs: // not of the triggers: to drop one by one would take time
		l.w.changed()
	default:
		l.w.changed(message.IDs...)
	}
}

// test tests every echoEvery that notifications are received. Another connection
// sends one, because a pooler may return to a connection what it sent itself. Without
// triggers that send any, once is enough: each test is a commit, after which other nodes
// look their accounts up again.
func (l *listener) test() {
	if !l.listening || l.received && l.known && (!l.triggers || l.mute) {
		return
	}
	now := time.Now()
	if l.pending && now.Sub(l.sent) > echoWithin {
		l.pending, l.received = false, false
		l.conclude()
	}
	if l.pending || now.Sub(l.sent) < l.w.d.echoEvery {
		return
	}
	own := make(chan string, 1)
	l.echo, l.pending, l.sent, l.own = rand.Text(), true, now, own
	l.heard = false
	d, echo := l.w.d, l.echo
	go func() {
		ctx, cancel := context.WithTimeout(d.running, deadline.Query)
		defer cancel()
		own <- d.sendEcho(ctx, echo)
	}()
}

// echoSQL sends an echo, and returns its transaction.
const echoSQL = `select pg_current_xact_id()::text
from pg_notify($1, json_build_object('echo', $2::text, 'transaction', pg_current_xact_id()::text)::text)`

// sendEcho sends an echo, and returns its transaction; empty if that fails.
// Then no echo is received.
func (d *Directory) sendEcho(ctx context.Context, echo string) (transaction string) {
	conn, err := d.lookups.acquire(ctx, d.pool)
	if err != nil {
		return ""
	}
	defer conn.Release()
	_ = conn.QueryRow(ctx, echoSQL, channel, echo).Scan(&transaction)
	return transaction
}

// explains reports whether the gate has changed only by the transaction that sent the
// last echoes of this directory. Echoes of others prove nothing, since any role could
// have sent them to hide a change: they count as one.
func (l *listener) explains(before, after string) bool {
	if !l.heard && l.own != nil { // it may have committed, and not have returned yet
		select {
		case transaction := <-l.own:
			l.own = nil
			l.prove(transaction)
		case <-time.After(echoGrace):
		}
	}
	for range l.proven { // which are in any order
		for _, transaction := range l.proven {
			if next := withTransaction(before, transaction); next != "" {
				before = next
			}
		}
	}
	return before == after
}

// prove records a transaction that has sent an echo of this directory.
func (l *listener) prove(transaction string) {
	if l.proven = append(l.proven, transaction); len(l.proven) > maxProven {
		l.proven = l.proven[1:]
	}
}

// withTransaction returns the gate of a primary after one more transaction;
// empty if that is not the next one. A snapshot is xmin:xmax:xip, where xmax is
// the next transaction, and xip are those in progress.
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

// know records which triggers the users table has.
func (l *listener) know(found triggerState) {
	l.known, l.triggers, l.mute = true, found != triggersMissing, found == triggersSilent
	outdated := found == triggersOutdated
	if outdated && !l.outdated {
		l.w.d.log().Warn("the triggers on the users table are of an earlier version, which can make statements of the app fail; run `caddy stale-session install` again")
	}
	l.outdated = outdated
	l.w.d.outdated.Store(outdated)
	if l.received {
		l.conclude()
	}
}

// conclude sets the state, and logs it if it has changed.
func (l *listener) conclude() {
	now := blocked
	switch {
	case l.received && l.triggers && l.mute:
		now = silent
	case l.received && l.triggers:
		now = active
	case l.received && l.known:
		now = noTriggers
	case l.received:
		return // the gate is about to be read, which sets it
	}
	d := l.w.d
	if listenerState(d.state.Load()) == now {
		return
	}
	// Log first: whoever sees the state finds the line.
	switch now {
	case active:
		d.log().Info("change notifications work")
	case noTriggers:
		d.log().Info("no change triggers on the users table; changes are noticed within the poll interval; `caddy stale-session install` adds triggers")
	case silent:
		d.log().Info("the triggers on the users table send nothing, because of a setting of the server: max_prepared_transactions is not 0, or track_counts is off; changes are noticed within the poll interval")
	case blocked:
		d.log().Warn("change notifications do not arrive, as behind a transaction pooler; changes are noticed within the poll interval; set `listen_database` to the direct address of the database")
	}
	d.state.Store(int32(now))
}
