package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// Lookup implements directories.Directory. If a connection turns out to be
// broken, it tries once more on another: after a restart of the server, all
// idle ones are.
func (d *Directory) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	look := d.lookupOnPool
	if slices.ContainsFunc(queries, func(q directories.Query) bool { return !q.Since.IsZero() }) {
		look = d.confirm
	}
	accounts, err := look(ctx, queries)
	switch {
	case err == nil:
		return accounts, nil
	case broken(err) && classOf(err) == directories.Down:
		d.pool.Reset()
	case classOf(err) == directories.Schema: // a migration may have changed it
	default:
		return nil, classify(err)
	}
	accounts, err = look(ctx, queries)
	return accounts, classify(err)
}

// confirm looks subjects up on a primary, if one is available; else on a standby,
// with the time up to which that has all changes.
func (d *Directory) confirm(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	if d.standby.Load() && d.primary != nil {
		accounts, err := d.lookupOnPrimary(ctx, queries)
		if err == nil {
			return accounts, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		d.log().Warn("primary is not available; asking a standby", zap.Error(classify(err)))
	}
	if d.standby.Load() {
		return d.lookupOnStandby(ctx, queries)
	}
	accounts, err := d.lookupOnPool(ctx, queries)
	if err == nil && d.standby.Load() {
		return d.confirm(ctx, queries)
	}
	return accounts, err
}

// lookupOnPool looks subjects up on any server.
func (d *Directory) lookupOnPool(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	conn, err := d.lookups.acquire(ctx, d.pool)
	if err != nil {
		d.yieldIf(err)
		return nil, err
	}
	defer conn.Release()
	accounts, err := d.lookupOn(ctx, conn.Conn(), d.lookups, queries)
	if err == nil {
		d.standby.Store(slices.ContainsFunc(accounts, func(a directories.Account) bool { return a.Replica }))
	}
	return accounts, err
}

// lookupOnPrimary looks subjects up on the primary.
func (d *Directory) lookupOnPrimary(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	look := func() ([]directories.Account, error) { return d.lookupWith(ctx, d.primary, queries) }
	accounts, err := look()
	if err != nil && broken(err) { // after a restart of the primary
		d.primary.Reset()
		return look()
	}
	return accounts, err
}

func (d *Directory) lookupWith(ctx context.Context, pool *pgxpool.Pool, queries []directories.Query) ([]directories.Account, error) {
	conn, err := d.lookups.acquire(ctx, pool)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	return d.lookupOn(ctx, conn.Conn(), d.lookups, queries)
}

// lookupOn looks subjects up on a connection of a connector.
func (d *Directory) lookupOn(ctx context.Context, conn *pgx.Conn, c *connector, queries []directories.Query) ([]directories.Account, error) {
	s, err := d.ready(ctx, conn, c, statementAge)
	if err != nil {
		return nil, err
	}
	ids, possible, doubtful := s.id.prepare(queries)
	if doubtful { // a migration may have changed the type of the id
		if s, err = d.ready(ctx, conn, c, 0); err != nil {
			return nil, err
		}
		ids, possible, _ = s.id.prepare(queries)
	}
	found := make([]directories.Account, len(ids))
	confirming := slices.ContainsFunc(queries, func(q directories.Query) bool { return !q.Since.IsZero() })
	var hidden *doubt
	if confirming {
		hidden, err = d.queryProven(ctx, conn, s, ids, found)
	} else {
		err = d.queryVisible(ctx, conn, s, ids, found)
	}
	if err != nil {
		return nil, d.lost(ctx, conn, c, s, err)
	}
	if !confirming && s.uncertain(ids) {
		for i := range found {
			found[i].Unconfirmed = true
		}
	}
	accounts := found
	if len(found) < len(queries) {
		accounts = make([]directories.Account, len(queries))
		for i := range accounts {
			if possible[i] {
				accounts[i], found = found[0], found[1:]
			}
		}
	}
	d.note(ctx, conn, s, queries, accounts)
	if confirming {
		if err := d.prove(ctx, conn, s, hidden, queries, accounts); err != nil {
			return nil, d.lost(ctx, conn, c, s, err)
		}
	}
	return accounts, nil
}

// lost drops the statement if it no longer works, and returns an error that says
// which rights the role lacks.
func (d *Directory) lost(ctx context.Context, conn *pgx.Conn, c *connector, s *statement, err error) error {
	switch classOf(err) {
	case directories.Schema:
		c.statement.Store(nil)
	case directories.Rights:
		c.statement.Store(nil)
		var security string
		if conn.QueryRow(ctx, "select current_setting('row_security')").Scan(&security) == nil && security == "off" {
			// Set for the role: then this is how row-level security shows itself.
			if hidden, failed := policyDoubt(ctx, conn, s); failed == nil && hidden != nil {
				return hidden.err()
			}
		}
		return d.denied(ctx, conn, c, s, err)
	}
	return err
}

// note records that subjects were found, and raises the alarm if none ever was.
func (d *Directory) note(ctx context.Context, conn *pgx.Conn, s *statement, queries []directories.Query, accounts []directories.Account) {
	absent := false
	for i, a := range accounts {
		if a.Exists {
			d.found.add(s.table)
			d.doubts.found.Store(true)
			return
		}
		absent = absent || !queries[i].Since.IsZero() // confirmed
	}
	if absent && !d.doubts.found.Load() {
		d.alarm(ctx, conn, s)
	}
}

// query looks ids up by once. An id that the database rejects, because Config.Query
// casts it, does not exist.
func (s *statement) query(ids []string, accounts []directories.Account, once func([]string, []directories.Account) error) error {
	if len(ids) == 0 {
		return nil
	}
	err := once(ids, accounts)
	switch {
	case err == nil:
		return nil
	case !slices.Contains([]string{"22P02", "22003", "22021"}, sqlState(err)):
		return err
	case len(ids) == 1:
		accounts[0] = directories.Account{}
		return nil
	}
	half := len(ids) / 2
	if err := s.query(ids[:half], accounts[:half], once); err != nil {
		return err
	}
	return s.query(ids[half:], accounts[half:], once)
}

// ready returns the statement. It reads the catalog if there is none, or if it is
// older than age.
func (d *Directory) ready(ctx context.Context, conn *pgx.Conn, c *connector, age time.Duration) (*statement, error) {
	asked := time.Now()
	if s := c.statement.Load(); s != nil && asked.Sub(s.made) < age {
		return s, nil
	}
	c.discovering.Lock()
	defer c.discovering.Unlock()
	if s := c.statement.Load(); s != nil && asked.Sub(s.made) < age { // by another goroutine
		return s, nil
	}
	s, err := d.discover(ctx, conn, c)
	if err == nil {
		err = c.mayRead(ctx, conn, s)
	}
	if err != nil {
		c.statement.Store(nil)
		return nil, d.denied(ctx, conn, c, s, err)
	}
	database, err := identityOf(ctx, conn)
	if err != nil {
		return nil, err
	}
	c.database.Store(&database)
	s.made = time.Now()
	c.statement.Store(s)
	if c == d.lookups {
		d.ids.Store(&s.id)
		d.describe(s)
	}
	return s, nil
}

// describe logs the users table, if it has changed.
func (d *Directory) describe(s *statement) {
	d.described.Lock()
	defer d.described.Unlock()
	if summary := s.String(); summary != d.summary {
		d.summary = summary
		d.log().Info("found the users table", zap.String("table", s.table), zap.String("columns", s.columns))
	}
}
