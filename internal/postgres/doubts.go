package postgres

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

// doubtPeriod is the minimum time between two alarms.
const doubtPeriod = 30 * time.Second

// doubts counts subjects that were not found, until one is found.
type doubts struct {
	found  atomic.Bool
	absent atomic.Int64

	mu     sync.Mutex
	raised time.Time
}

// due counts a subject that was not found, and reports whether to raise the
// alarm.
func (d *doubts) due(now time.Time) bool {
	if d.found.Load() {
		return false
	}
	d.absent.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.raised) < doubtPeriod {
		return false
	}
	d.raised = now
	return true
}

// alarm raises the alarm if no subject was ever found in a table that has rows:
// either the configuration is wrong, or all users are gone.
func (d *Directory) alarm(ctx context.Context, conn *pgx.Conn, s *statement) {
	if !d.doubts.due(time.Now()) || s.table == "" {
		return
	}
	var rows bool
	if err := conn.QueryRow(ctx, "select exists (select from "+s.table+")").Scan(&rows); err != nil || !rows {
		return
	}
	d.log().Error("no session so far names a user of the users table, which has rows: all of them are stale, or `subject` or `database` is wrong; set `mode observe` while you investigate; `subject email`, with `id email` in the block of `users`, looks users up by email",
		zap.String("table", s.table), zap.Int64("subjects", d.doubts.absent.Load()))
}

// Explain implements directories.Explainer.
func (d *Directory) Explain(ctx context.Context) string {
	s := d.lookups.statement.Load()
	if s == nil || s.table == "" {
		return "`query` no longer returns them"
	}
	var rows bool
	err := d.pool.QueryRow(ctx, "select exists (select from "+s.table+")").Scan(&rows)
	switch {
	case err != nil:
		return "the users table cannot be read"
	case !rows:
		return "the users table is empty: the database or search_path is not the app's, or all users were deleted"
	}
	return "the users table has other rows: the database or search_path is not the app's, a snapshot was restored, or many users were deleted"
}
