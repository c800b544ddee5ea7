// Package sessiontable finds out that a session has ended in the app's table of
// sessions, while its cookie is still valid: its owner has signed out elsewhere.
package sessiontable

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
)

// Table is a table of sessions. It is safe for concurrent use.
type Table struct {
	rows   *accounts.Engine // an account is a row, disabled once it has ended
	seen   *cache.Cache     // the ids of sessions that had a row
	paused atomic.Int64     // until when, in nanoseconds since 1970, nobody asks
}

// seenBytes is the size of Table.seen: some ten thousand sessions.
const seenBytes = 1 << 20

// Open returns a table whose rows an engine looks up. It does not connect before the
// first session.
func Open(rows *accounts.Engine) *Table { return &Table{rows: rows, seen: cache.New(seenBytes)} }

// Close closes the engine.
func (t *Table) Close() error {
	t.seen.Close()
	return t.rows.Close()
}

const (
	// seenLife is how long it is remembered that a session had a row.
	seenLife = 7 * 24 * time.Hour
	// pause is how long nobody asks a table that has not answered: perhaps there is
	// none, because the app keeps its sessions elsewhere.
	pause = 10 * time.Second
)

// Ended reports whether the row of a session is gone, or has ended. It waits until
// ctx is done at most; what it cannot find out has not ended.
//
// A row that was never there proves nothing: the app may keep its sessions in Redis.
func (t *Table) Ended(ctx context.Context, id []byte, now time.Time) bool {
	if now.UnixNano() < t.paused.Load() {
		return false
	}
	var row accounts.Account
	query := accounts.Query{Query: directories.Query{Subject: id}, Now: now}
	for range 2 {
		if _, err := t.rows.Lookup(ctx, query, &row); err != nil {
			if !errors.Is(ctx.Err(), context.Canceled) { // a client that hangs up says nothing of the table
				t.paused.Store(now.Add(pause).UnixNano())
			}
			return false
		}
		var room [1]byte
		switch _, seen := t.seen.Get(id, room[:], now); {
		case row.Exists && !row.Disabled:
			if !seen {
				t.seen.Set(id, room[:], now, seenLife)
			}
			return false
		case !seen, t.rows.Braking():
			return false
		}
		query.Ending, query.Since = true, now // once more, from nobody who may lag
	}
	return t.rows.Proves(&row, now)
}
