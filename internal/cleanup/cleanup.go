// Package cleanup deletes expired and orphaned rows from the sessions table of an
// app that keeps its sessions in the database.
package cleanup

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
)

const (
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
	// DryRun only counts, at every run. The first run for a table always does.
	DryRun bool
	// Storage is where it is kept for which tables there was a run.
	Storage certmagic.Storage `json:"-"`
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
	wait   time.Duration    // how long a statement waits for a lock
	now    func() time.Time // the clock of this computer
}

// Start starts a job. It does not connect.
func Start(config Config) (*Job, error) {
	users, err := postgres.Open(config.Users)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	j := &Job{config: config, users: users, stop: stop, wait: maxWait, now: time.Now}
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
		timer := time.NewTimer(time.Until(j.next()))
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

// next returns when the next run begins.
func (j *Job) next() time.Time { return time.Now().Truncate(j.config.Every).Add(j.config.Every) }

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
	defer j.users.Disconnect() // the next run is on another node, perhaps, and the role may open few
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

// clean deletes what is proven to be expired or orphaned, or only counts it.
func (j *Job) clean(ctx context.Context, conn *pgx.Conn, s sessions) (err error) {
	if s.users, s.id, err = j.users.Table(ctx); err != nil {
		return err
	}
	first, err := j.firstFor(ctx, conn, s)
	if err != nil {
		return err
	}
	r := &removal{job: j, conn: conn, sessions: s, counts: first || j.config.DryRun}
	expired, err := r.cleanExpired(ctx)
	var orphaned int64
	if err == nil {
		orphaned, err = r.cleanOrphaned(ctx)
	}
	fields := []zap.Field{zap.String("table", s.table), zap.Int64("expired", expired), zap.Int64("orphaned", orphaned), zap.Strings("some_users_gone", r.gone)}
	switch {
	case err != nil && r.counts:
		return err
	case r.counts:
		j.tell(first, expired+orphaned, fields)
		if first {
			return j.remember(ctx, conn, s)
		}
		return nil
	}
	if j.config.Removed != nil {
		j.config.Removed(expired, orphaned)
	}
	j.config.Logger().Info("session cleanup deleted", append(fields, zap.Bool("interrupted", r.interrupted()))...)
	return err
}

// tell says what would have been deleted, and what deletes it.
func (j *Job) tell(first bool, rows int64, fields []zap.Field) {
	how := "remove `dry_run` from the block of `cleanup`"
	if first && !j.config.DryRun {
		how = fmt.Sprintf("wait for the next run, at %s: the first one for a table only counts; to keep them, add `dry_run` to the block of `cleanup`", j.next().UTC().Format(time.RFC3339))
	}
	log := j.config.Logger().Info
	if rows > 0 {
		log, fields = j.config.Logger().Warn, append(fields, zap.String("to_delete_them", how))
	}
	log("session cleanup would delete", fields...)
}
