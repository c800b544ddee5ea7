package directory

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// channel is what the triggers notify.
	channel = "stale_session"
	// echoEvery is how often the channel is tried.
	echoEvery = 30 * time.Second
	// echoWithin is how soon an echo has to come back.
	echoWithin = 2 * time.Second
)

// notification is the payload of a notification, as JSON.
type notification struct {
	// IDs are the users that were deleted or changed; none for all.
	IDs []string `json:"ids"`
	// Echo is what a directory itself has sent, in a transaction.
	Echo        string `json:"echo"`
	Transaction string `json:"transaction"`
	// Beside tells that something else was changed, see Postgres.Follow.
	Beside bool `json:"beside"`
}

// hearing tells what notifications are worth.
type hearing int32

const (
	// deaf: the server is a standby, or has not been tried yet.
	deaf hearing = iota
	// swallowed: what is sent does not arrive. A transaction pooler does that.
	swallowed
	// untold: they arrive, but the users table has no triggers to send any.
	untold
	// told: changes are notified.
	told
)

// ears listen for notifications on the connection of a watch.
type ears struct {
	w         *watch
	every     time.Duration // how often the channel is tried
	listening bool
	triggers  bool
	echo      string      // that was sent and has not come back
	sent      time.Time   // when
	by        chan string // the transaction that has sent it
	others    []string    // those of the last echoes that were heard
	arrive    bool        // the last echo came back

	hearing atomic.Int32
	heard   atomic.Uint64
}

func (e *ears) of(w *watch) { e.w, e.every = w, echoEvery }

// open begins to listen.
func (e *ears) open(conn *pgx.Conn) error {
	e.listening, e.arrive, e.echo, e.sent, e.by, e.others = false, false, "", time.Time{}, nil, nil
	e.hearing.Store(int32(deaf))
	err := e.w.ask(func(ctx context.Context) error {
		_, err := conn.Exec(ctx, "listen "+channel)
		return err
	})
	var pg *pgconn.PgError
	switch {
	case err == nil:
		e.listening = true
	case errors.As(err, &pg) && !conn.IsClosed(): // a standby, or no Postgres: it is polled
		return nil
	}
	return err
}

// listen waits until a time. What arrives is heard at once.
func (e *ears) listen(conn *pgx.Conn, until time.Time) error {
	e.try()
	ctx, cancel := context.WithDeadline(e.w.p.running, until)
	defer cancel()
	for ctx.Err() == nil {
		if err := conn.PgConn().WaitForNotification(ctx); err != nil && (ctx.Err() == nil || conn.IsClosed()) {
			return err
		}
		if err := e.w.tell(conn); err != nil {
			return err
		}
	}
	return e.w.p.running.Err()
}

// hear takes a notification. It is called while the connection is read.
func (e *ears) hear(_ *pgconn.PgConn, n *pgconn.Notification) {
	if n.Channel != channel {
		return
	}
	var told notification
	if json.Unmarshal([]byte(n.Payload), &told) != nil {
		return
	}
	if told.Echo != "" {
		if told.Echo == e.echo {
			e.echo, e.arrive = "", true
			e.conclude()
		} else if e.others = append(e.others, told.Transaction); len(e.others) > maxOthers {
			e.others = e.others[1:]
		}
		return
	}
	if told.Beside {
		e.w.beside = true
		return
	}
	e.heard.Add(1)
	p := e.w.p
	if len(told.IDs) == 0 {
		p.accounts.dropAll(p.instant(p.now()))
		return
	}
	for _, id := range told.IDs {
		p.accounts.drop(p.key([]byte(id)))
	}
}

// try proves once in a while that notifications arrive: another connection
// sends one, because a pooler may bring back to a connection what that one has
// sent itself.
func (e *ears) try() {
	if !e.listening {
		return
	}
	now := time.Now()
	if e.echo != "" && now.Sub(e.sent) > echoWithin {
		e.echo, e.arrive = "", false
		e.conclude()
	}
	if now.Sub(e.sent) < e.every {
		return
	}
	by := make(chan string, 1)
	e.echo, e.sent, e.by = rand.Text(), now, by
	echo := e.echo
	e.w.p.background(func() {
		ctx, cancel := context.WithTimeout(e.w.p.running, queryTimeout)
		defer cancel()
		var transaction string
		// If it fails, no echo comes back.
		_ = e.w.p.pool.QueryRow(ctx, echoSQL, channel, echo).Scan(&transaction)
		by <- transaction
	})
}

// echoSQL sends an echo, and returns the transaction that does.
const echoSQL = `select pg_current_xact_id()::text
from pg_notify($1, json_build_object('echo', $2::text, 'transaction', pg_current_xact_id()::text)::text)`

// maxOthers is how many echoes of others are remembered.
const maxOthers = 16

// explains tells whether the gate has changed by nothing but the transactions
// that have sent echoes: the last one of this directory, and those of others,
// in other instances of Caddy before the same server.
func (e *ears) explains(before, after string) bool {
	transactions := e.others
	if e.by != nil {
		transactions = append(transactions, <-e.by) // which comes within queryTimeout
	}
	e.by, e.others = nil, nil
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

// know takes note of whether there are triggers.
func (e *ears) know(triggers bool) {
	e.triggers = triggers
	if e.arrive {
		e.conclude()
	}
}

// conclude says, when it has changed, what notifications are worth.
func (e *ears) conclude() {
	now := swallowed
	switch {
	case e.arrive && e.triggers:
		now = told
	case e.arrive:
		now = untold
	}
	if before := hearing(e.hearing.Swap(int32(now))); before != now {
		e.w.p.journal.hearing(now, e.w.p.config.Poll)
	}
}
