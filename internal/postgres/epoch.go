package postgres

import (
	"context"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// epochSQL returns a fingerprint of the users table, which is empty while there is
// none; what is installed on it; and a fingerprint of its columns, of the rights to
// them, and of the tables of its name in any schema. It takes no rights to the table.
const epochSQL = `select coalesce(($2::text || ' ' || d.oid || ' ' || c.oid || ' ' || coalesce(pg_relation_filenode(c.oid), 0)), ''),
  ` + installedSQL + `,
  concat((select string_agg(concat(s.oid, '/', s.xmin), ' ' order by s.oid) from pg_class s where s.relname = (parse_ident(nullif($1, '')))[2]::name), ': ', n.xmin, ' ',
    (select string_agg(a.xmin::text, ' ' order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0))
from pg_database d left join (pg_class c join pg_namespace n on n.oid = c.relnamespace)
  on n.nspname = (parse_ident(nullif($1, '')))[1]::name and c.relname = (parse_ident(nullif($1, '')))[2]::name
where d.datname = current_database()`

// readEpoch detects that the users table was recreated, emptied or restored,
// alone or with its schema, database or server; and that the role lost its rights
// to it.
func (w *watch) readEpoch(ctx context.Context) error {
	d := w.d
	s, err := d.ready(ctx, w.conn, d.listen, statementAge)
	if err == nil {
		w.table = s.table
	}
	if err == nil || classOf(err) == directories.Rights && w.table != "" {
		changed, failed := w.fingerprint(ctx)
		if changed {
			d.lookups.statement.Store(nil) // the columns may have changed
			d.listen.statement.Store(nil)
		}
		switch {
		case failed != nil:
			err = failed
		case changed && err == nil:
			_, err = d.ready(ctx, w.conn, d.listen, 0)
		}
	}
	if err != nil && (broken(err) && classOf(err) == directories.Down || w.conn.IsClosed()) {
		return err
	}
	w.reported.Failure = nil
	if classOf(err) == directories.Rights && d.listen == d.lookups {
		w.reported.Failure = classify(err)
	}
	return nil // other errors: perhaps a migration is in progress, whose next commit changes the gate
}

// fingerprint reads the epoch, and reports whether it has changed.
func (w *watch) fingerprint(ctx context.Context) (changed bool, err error) {
	var epoch, catalog string
	var found installed
	system, err := systemOf(ctx, w.conn)
	if err == nil {
		err = w.conn.QueryRow(ctx, epochSQL, w.table, system).Scan(&epoch, &found.triggers, &found.restore, &catalog)
	}
	if err != nil {
		return false, err
	}
	w.listener.know(found.triggers)
	if found.restore != "" {
		w.d.restoreTriggers(found.restore)
	}
	changed = w.d.catalog != "" && w.d.catalog != catalog
	if w.d.catalog = catalog; epoch != "" {
		w.reported.Epoch = epoch
	}
	return changed, nil
}
