package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

const (
	// lockTimeout is how long an attempt to lock the users table may wait: whoever
	// writes meanwhile waits behind it.
	lockTimeout = "100ms"
	// installAttempts is how often it is tried, with installPause in between.
	installAttempts = 10
	installPause    = 500 * time.Millisecond
)

// InstallSQL connects, and returns the SQL that creates the triggers on the users
// table. It can be run repeatedly, and replaces those of an earlier version.
func (d *Directory) InstallSQL(ctx context.Context) (string, error) {
	t, err := d.triggers(ctx)
	if err != nil {
		return "", err
	}
	return t.installSQL(), nil
}

// RestoreSQL connects, and returns the SQL that lets roles create the triggers again
// once the users table was recreated: the watch does so. It goes after InstallSQL.
func (d *Directory) RestoreSQL(ctx context.Context, roles []string) (string, error) {
	t, err := d.triggers(ctx)
	if err != nil {
		return "", err
	}
	return t.restoreSQL(roles), nil
}

// triggers connects, and reads the catalog for the users table.
func (d *Directory) triggers(ctx context.Context) (triggers, error) {
	var s *statement
	err := d.With(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var err error
		s, err = d.structure(ctx, conn)
		return err
	})
	if err != nil {
		return triggers{}, classify(err)
	}
	return s.triggers(), nil
}

// triggers returns those of the table that it reads.
func (s *statement) triggers() triggers {
	return triggers{s.relation.schema, s.relation.name, s.users}
}

// structure reads the catalog for the users table and its columns, with those that
// other directories read. The role may not have to read any row.
func (d *Directory) structure(ctx context.Context, conn *pgx.Conn) (*statement, error) {
	s, err := d.ownStructure(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, other := range d.beside {
		if o, err := other.ownStructure(ctx, conn); err == nil && o.table == s.table { // its own install tells errors
			s.users.beside = append(s.users.beside, o.users.names()...)
		}
	}
	return s, nil
}

func (d *Directory) ownStructure(ctx context.Context, conn *pgx.Conn) (*statement, error) {
	d.lookups.discovering.Lock()
	defer d.lookups.discovering.Unlock()
	s, err := d.discover(ctx, conn, d.lookups)
	if err == nil && s.table == "" {
		err = schemaError("`query` names no table for triggers: name the table and its columns with `users`")
	}
	return s, err
}

// Beside makes what is installed serve other directories of the same database, too: a
// table has one set of triggers, for the columns that any of them reads.
func (d *Directory) Beside(others ...*Directory) {
	for _, other := range others {
		if other != d {
			d.beside = append(d.beside, other)
		}
	}
}

// Run executes SQL of this package in one transaction. It tries again while the users
// table is in use.
func (d *Directory) Run(ctx context.Context, sql string) error {
	return classifyInstall(d.With(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		for attempt := 1; ; attempt++ {
			err := runOnce(ctx, conn, sql)
			if sqlState(err) != "55P03" || attempt == installAttempts {
				return err
			}
			select {
			case <-time.After(installPause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}))
}

func runOnce(ctx context.Context, conn *pgx.Conn, sql string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local lock_timeout = '"+lockTimeout+"'"); err != nil {
			return err
		}
		_, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll()
		return err
	})
}

// classifyInstall is classify, with what to do when installing.
func classifyInstall(err error) error {
	err = classify(err)
	if e, ok := err.(*directories.Error); ok { //nolint:errorlint // classify returns no other
		switch e.Code {
		case "42501":
			e.Text = "the role may not create triggers: connect as the owner of the users table, with CREATE on the database"
		case "42704":
			e.Text = "there is no such role to grant to"
		case "55P03":
			e.Text = "the users table was in use for five seconds: try again when there are fewer writes"
		case "42809":
			e.Text = "triggers need a table: name the one behind the view with `users`"
		}
	}
	return err
}
