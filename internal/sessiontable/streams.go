package sessiontable

import (
	"iter"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

// Kept reports whether a session ends with its row.
func (t *Table) Kept() bool { return t.kept }

// String names the table in front of streams: no directory of users has the same name.
func (t *Table) String() string { return t.name }

// Key returns the one spelling of the id of a session, as far as the table knows by now.
func (t *Table) Key(id []byte) []byte { return t.rows.Key(id) }

// underWay are the streams of sessions in a table.
type underWay struct {
	table   *Table
	streams accounts.Streams
}

// Changed implements accounts.Streams. A session that never had a row does not end by it.
// A table that has told of a row answers: whoever judges its streams must not find it
// paused.
func (u underWay) Changed(_ string, id []byte) {
	if id != nil {
		if !u.table.remembers(id, time.Now()) {
			return
		}
		u.table.paused.Store(0)
	}
	u.streams.Changed(u.table.name, id)
}

// Subjects implements accounts.Streams. What has never had a row is not looked up.
func (u underWay) Subjects(string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		now := time.Now()
		for id := range u.streams.Subjects(u.table.name) {
			if u.table.remembers(id, now) && !yield(id) {
				return
			}
		}
	}
}
