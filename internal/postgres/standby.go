package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// lookupOnStandby looks subjects up on a standby, with the time of the last
// change that it has replayed.
func (d *Directory) lookupOnStandby(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	conn, err := d.lookups.acquire(ctx, d.pool)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	replayed, err := replayedUntil(ctx, conn.Conn()) // first, so that the lookup sees that change
	if err != nil {
		return nil, err
	}
	accounts, err := d.lookupOn(ctx, conn.Conn(), d.lookups, queries)
	if err != nil {
		return nil, err
	}
	for i := range accounts {
		if a := &accounts[i]; a.Replica && replayed != nil {
			a.AsOf = *replayed
		}
	}
	return accounts, nil
}

// A standby has this long to replay what it has received, and is asked this often.
const (
	replayWithin = 200 * time.Millisecond
	replayEvery  = 20 * time.Millisecond
)

// replayedSQL returns whether a standby has replayed the log up to a position, and
// the time of the last transaction that it has replayed; NULL if that may be long
// ago because it no longer receives any.
const replayedSQL = `select coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, true),
  case when exists (select from pg_stat_wal_receiver) or pg_last_xact_replay_timestamp() > clock_timestamp() - interval '1 minute'
    then pg_last_xact_replay_timestamp() end`

// replayedUntil returns the time up to which a standby has all changes; nil if it
// is behind by an unknown time.
func replayedUntil(ctx context.Context, conn *pgx.Conn) (*time.Time, error) {
	var received *string
	if err := conn.QueryRow(ctx, "select pg_last_wal_receive_lsn()::text").Scan(&received); err != nil {
		return nil, err
	}
	for range replayWithin / replayEvery {
		var all bool
		var until *time.Time
		if err := conn.QueryRow(ctx, replayedSQL, received).Scan(&all, &until); err != nil || all {
			return until, err
		}
		select {
		case <-time.After(replayEvery):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, nil //nolint:nilnil // no time
}
