// Package sessiontable looks into the place where the app keeps its sessions: whose one
// is, and whether it has ended there while its cookie is still valid, because its owner
// has signed out elsewhere.
package sessiontable

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
)

// Table is a table of sessions, or the Redis that holds them. It is safe for concurrent use.
type Table struct {
	name   string           // in front of streams
	rows   *accounts.Engine // an account is a row, disabled once it has ended
	kept   bool             // a missing row has ended
	seen   *cache.Cache     // the ids of sessions that had a row
	paused atomic.Int64     // until when, in nanoseconds since 1970, nobody asks
}

// seenBytes is the room of a session in Table.seen, with an id as long as a UUID. Some of
// it is for what does not spread evenly.
const seenBytes = 80

// Open returns a table whose rows are looked up in a directory, which it closes in the
// end. It does not connect before the first session. kept tells whether a row stays until
// its session ends: in Redis it may be evicted, and the app has another copy.
func Open(directory directories.Directory, config accounts.Config, kept bool) *Table {
	t := &Table{name: "sessions in " + directory.String(), kept: kept}
	sessions := cmp.Or(config.Size, accounts.DefaultSize)
	switch {
	case !kept:
		sessions, config.Streams = 0, nil
	case config.Streams != nil:
		config.Streams = underWay{t, config.Streams}
	}
	t.seen, t.rows = cache.New(sessions*seenBytes), accounts.Open(directory, config)
	return t
}

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

// Owner returns whose a session is, and when it was made, by its row; nil if that is
// not known. It waits until ctx is done at most.
func (t *Table) Owner(ctx context.Context, id []byte, now time.Time) (user []byte, made time.Time) {
	var row accounts.Account
	query := accounts.Query{Query: directories.Query{Subject: id}, Now: now}
	if !t.find(ctx, query, &row) || !row.Exists || row.Disabled || len(row.Matched) == 0 {
		return nil, time.Time{}
	}
	t.remember(id, now)
	return append([]byte(nil), row.Matched[0]...), row.CreatedAt
}

// find looks a row up. It reports whether it could find out.
func (t *Table) find(ctx context.Context, query accounts.Query, row *accounts.Account) bool {
	if query.Now.UnixNano() < t.paused.Load() {
		return false
	}
	_, err := t.rows.Lookup(ctx, query, row)
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) && hides(err) {
		t.paused.Store(query.Now.Add(pause).UnixNano())
	}
	return err == nil
}

// hides reports whether nobody should ask the table for a while after an error. What says
// something of one session alone must not hide others; nor must one slow answer, because
// the engine stops asking a table that stays slow.
func hides(err error) bool {
	var e *directories.Error
	return !errors.As(err, &e) || !slices.Contains([]directories.Class{directories.Standby, directories.Unproven, directories.Slow, directories.Busy}, e.Class)
}

// Ended reports whether the row of a session is gone, or has ended; aside tells that no
// request asks. It waits until ctx is done at most; what it cannot find out has not ended.
//
// A row that was never there proves nothing: the app may keep its sessions in Redis.
func (t *Table) Ended(ctx context.Context, id []byte, now time.Time, aside bool) bool {
	if !t.kept {
		return false
	}
	var row accounts.Account
	query := accounts.Query{Query: directories.Query{Subject: id}, Now: now, Aside: aside}
	for range 2 {
		if !t.find(ctx, query, &row) {
			return false
		}
		switch {
		case row.Exists && !row.Disabled:
			t.remember(id, now)
			return false
		case !t.remembers(id, now), t.rows.Braking():
			return false
		}
		query.Ending, query.Since = true, now // once more, from nobody who may lag
	}
	return t.rows.Proves(&row, now)
}

// remember notes that a session had a row.
func (t *Table) remember(id []byte, now time.Time) {
	if t.kept && !t.remembers(id, now) {
		t.seen.Set(t.rows.Key(id), []byte{0}, now, seenLife)
	}
}

// remembers reports whether a session is known to have had a row.
func (t *Table) remembers(id []byte, now time.Time) bool {
	var room [1]byte
	_, seen := t.seen.Get(t.rows.Key(id), room[:], now)
	return seen
}
