// Package cleanup deletes expired and orphaned rows from the sessions table of an
// app that keeps its sessions in the database.
package cleanup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
)

const (
	// grace is how long an expired row is kept, because clocks differ.
	grace = time.Hour
	// batch is how many rows a statement deletes at most, so that it does not
	// hold many locks for long.
	batch = 500
	// maxShare is the share of rows that may be orphans. With more, the users
	// table is probably the wrong one.
	maxShare = 0.5
	// minRows is the number of rows from which maxShare applies.
	minRows = 20
	// maxWait is how long a statement waits for locked rows.
	maxWait = 2 * time.Second
	// hold is how long a run holds its lock at least, so that nodes whose clocks
	// differ by less do not run one after the other.
	hold = 5 * time.Second
	// timeout is how long a run takes at most.
	timeout = 10 * time.Minute
	// unlockTimeout is how long a run waits for the server to unlock.
	unlockTimeout = time.Second
)

// Config is the configuration of a Job.
type Config struct {
	// Users is where the users are, and their sessions.
	Users postgres.Config
	// Every is the interval. Runs begin at multiples of it since 1970, so that
	// the nodes of a fleet begin together, and one of them gets the lock.
	Every time.Duration
	// Sessions is the sessions table, with its schema if that is not in the
	// search path. Default: found in the database.
	Sessions string
	// DryRun only counts, at every run. The first run always does.
	DryRun bool
	// Logger returns the logger to use.
	Logger func() *zap.Logger `json:"-"`
	// Removed is called with the number of rows that a run deleted, unless nil.
	Removed func(expired, orphaned int64) `json:"-"`
}

// Job deletes sessions on a schedule until it is closed.
type Job struct {
	config Config
	users  *postgres.Directory
	stop   context.CancelFunc
	ended  sync.WaitGroup
	counts bool // the next run only counts
	wait   time.Duration
}

// Start starts a job. It does not connect.
func Start(config Config) (*Job, error) {
	users, err := postgres.Open(config.Users)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	j := &Job{config: config, users: users, stop: stop, counts: true, wait: maxWait}
	j.ended.Go(func() { j.work(ctx) })
	return j, nil
}

// Close stops the job and waits for it.
func (j *Job) Close() error {
	j.stop()
	j.ended.Wait()
	return j.users.Close()
}

func (j *Job) work(ctx context.Context) {
	for {
		timer := time.NewTimer(time.Until(time.Now().Truncate(j.config.Every).Add(j.config.Every)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := j.run(ctx); err != nil && ctx.Err() == nil {
			j.config.Logger().Error("session cleanup failed", zap.Error(err))
		}
	}
}

// lockName is the name of the advisory lock, before that of the table.
const lockName = "caddy-stale-session cleanup of "

// run cleans up once, unless another node is cleaning up the same table. The lock
// is that of a transaction of its own, which works through poolers too.
func (j *Job) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	locker, err := j.users.Connect(ctx)
	if err != nil {
		return err
	}
	defer locker.Close(context.WithoutCancel(ctx))
	s, err := j.find(ctx, locker)
	if err != nil {
		return err
	}
	tx, err := locker.Begin(ctx)
	if err != nil {
		return err
	}
	defer unlock(ctx, tx)
	var ours bool
	if err := tx.QueryRow(ctx, "select pg_try_advisory_xact_lock(hashtextextended($1, 0))", lockName+s.table).Scan(&ours); err != nil || !ours {
		return err
	}
	worker, err := j.users.Connect(ctx)
	if err != nil {
		return err
	}
	defer worker.Close(context.WithoutCancel(ctx))
	if err := j.clean(ctx, worker, s); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(hold - time.Since(began)):
	}
	return nil
}

// unlock releases the lock, also when ctx is done, but does not wait long for a
// server that hangs.
func unlock(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
	defer cancel()
	_ = tx.Rollback(ctx) // if it fails, closing the connection unlocks
}

// clean counts the rows to delete, and deletes them.
func (j *Job) clean(ctx context.Context, conn *pgx.Conn, s sessions) error {
	var all, expired, orphaned int64
	var people bool
	if err := conn.QueryRow(ctx, s.countSQL()).Scan(&all, &expired, &orphaned, &people); err != nil {
		return fmt.Errorf("counting the rows of %s: %w", s.table, err)
	}
	fields := []zap.Field{zap.String("table", s.table), zap.Int64("rows", all), zap.Int64("expired", expired), zap.Int64("orphaned", orphaned)}
	if orphaned > 0 && (!people || all >= minRows && float64(orphaned) > maxShare*float64(all)) {
		j.config.Logger().Warn("most sessions have no user, so these are kept: check that the users table is the right one, and that the role can read all of its rows", fields...)
		orphaned = 0
	}
	if j.counts || j.config.DryRun {
		j.counts = false
		j.config.Logger().Info("session cleanup would delete", fields...)
		return nil
	}
	removed, err := j.remove(ctx, conn, s.removeSQL(s.expired()), expired)
	if err == nil && orphaned > 0 {
		orphaned, err = j.remove(ctx, conn, s.removeSQL(s.orphaned()), orphaned)
	}
	if j.config.Removed != nil {
		j.config.Removed(removed, orphaned)
	}
	j.config.Logger().Info("session cleanup deleted", zap.String("table", s.table), zap.Int64("expired", removed), zap.Int64("orphaned", orphaned))
	return err
}

// remove runs a statement until it deletes less than a batch, or has deleted twice
// what was counted: then other writers keep adding rows.
func (j *Job) remove(ctx context.Context, conn *pgx.Conn, sql string, counted int64) (int64, error) {
	var removed int64
	for removed <= 2*counted+batch {
		var some int64
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, fmt.Sprintf("set local lock_timeout to %d", j.wait.Milliseconds())); err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, sql)
			some = tag.RowsAffected()
			return err
		})
		var pg *pgconn.PgError
		switch {
		case errors.As(err, &pg) && pg.Code == lockNotAvailable: // left for the next run
			return removed, nil
		case err != nil:
			return removed, fmt.Errorf("deleting rows: %w", err)
		}
		if removed += some; some < batch {
			break
		}
	}
	return removed, nil
}

// lockNotAvailable is the SQLSTATE after lock_timeout.
const lockNotAvailable = "55P03"

// errQuery is the error without a users table to join.
var errQuery = errors.New("cleanup needs a users table, and `query` names none: use `users` instead")
