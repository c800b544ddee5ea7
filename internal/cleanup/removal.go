package cleanup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// batch is how many rows a statement deletes at most, so that it does not
	// hold many locks for long.
	batch = 500
	// maxRows is how many rows are read at a time.
	maxRows = 50_000
	// maxWait is how long a statement waits for a lock: the app may wait for those
	// that the statement holds.
	maxWait = 100 * time.Millisecond
	// maxLocked is how many statements of a run may meet a lock.
	maxLocked = 50
	// maxStatement is how long a statement runs at most: a migration waits for it,
	// and the app for the migration.
	maxStatement = 20 * time.Second
)

// removal is what a run deletes, or counts.
type removal struct {
	job  *Job
	conn *pgx.Conn
	sessions
	counts bool     // only
	locked int      // how many statements met a lock
	gone   []string // some users whose sessions are orphaned, for the log
}

// interrupted reports whether locks have ended the run before its time.
func (r *removal) interrupted() bool { return r.locked >= maxLocked }

// within calls do in a transaction whose statements wait for no lock for long.
func (r *removal) within(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, r.conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		settings := fmt.Sprintf("set local lock_timeout to %d; set local statement_timeout to %d", r.job.wait.Milliseconds(), maxStatement.Milliseconds())
		if _, err := tx.Exec(ctx, settings, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		return do(tx)
	})
}

// cleanExpired deletes the expired rows, or counts them, and returns their number.
func (r *removal) cleanExpired(ctx context.Context) (n int64, err error) {
	condition := r.expired()
	if r.counts {
		err = r.within(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, fmt.Sprintf("select count(*) from %s s where %s", r.table, condition), r.job.now()).Scan(&n)
		})
		return n, reading(err)
	}
	for !r.interrupted() {
		var rows []string
		err := r.within(ctx, func(tx pgx.Tx) error {
			found, err := tx.Query(ctx, r.rowsSQL(condition), r.job.now())
			if err == nil {
				rows, err = pgx.CollectRows(found, pgx.RowTo[string])
			}
			return err
		})
		if err != nil {
			return n, reading(err)
		}
		some, err := r.remove(ctx, rows, condition)
		n += some
		if err != nil || some == 0 || len(rows) < maxRows {
			return n, err
		}
	}
	return n, nil
}

// remove deletes those of the rows that still meet a condition, which may have more
// arguments, in batches. Rows that somebody else has locked are left for the next run.
func (r *removal) remove(ctx context.Context, rows []string, condition string, more ...any) (removed int64, err error) {
	for len(rows) > 0 && err == nil && !r.interrupted() {
		some := rows[:min(batch, len(rows))]
		rows = rows[len(some):]
		var n int64
		n, err = r.removeBatch(ctx, some, condition, more)
		removed += n
	}
	return removed, err
}

func (r *removal) removeBatch(ctx context.Context, rows []string, condition string, more []any) (removed int64, err error) {
	if r.interrupted() {
		return 0, nil
	}
	err = r.within(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, r.removeSQL(condition), append([]any{r.job.now(), rows}, more...)...)
		removed = tag.RowsAffected()
		return err
	})
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == lockNotAvailable:
		if r.locked++; len(rows) == 1 {
			return 0, nil
		}
		half := len(rows) / 2
		if removed, err = r.removeBatch(ctx, rows[:half], condition, more); err != nil {
			return removed, err
		}
		others, err := r.removeBatch(ctx, rows[half:], condition, more)
		return removed + others, err
	case err != nil:
		return 0, fmt.Errorf("deleting rows: %w", err)
	}
	return removed, nil
}

// lockNotAvailable is the SQLSTATE after lock_timeout.
const lockNotAvailable = "55P03"

// reading says what failed, and what to do if it took too long.
func reading(err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pg) && pg.Code == queryCanceled:
		return fmt.Errorf("reading the sessions table takes more than %s: create an index on the time when they expire: %w", maxStatement, err)
	}
	return fmt.Errorf("reading the sessions table: %w", err)
}

// queryCanceled is the SQLSTATE after statement_timeout.
const queryCanceled = "57014"
