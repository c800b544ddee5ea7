package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// epochSQL returns a fingerprint of the users table, which is empty while there is
// none; whether it has triggers; and a fingerprint of its columns, of the rights to
// them, and of the tables of its name in any schema.
const epochSQL = `select coalesce(($2::text || ' ' || d.oid || ' ' || c.oid || ' ' || coalesce(pg_relation_filenode(c.oid), 0)), ''),
  exists (select from pg_trigger t where t.tgname = '` + deleteTrigger + `' and t.tgenabled <> 'D'
    and (t.tgrelid = c.oid or coalesce(c.relkind, 'v') not in ('r', 'p'))),
  concat((select string_agg(concat(n.oid, '/', n.xmin), ' ' order by n.oid) from pg_class n where n.relname = $3), ': ',
    (select string_agg(a.xmin::text, ' ' order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0))
from pg_database d left join pg_class c on c.oid = to_regclass(nullif($1, ''))
where d.datname = current_database()`

// readEpoch detects that the users table was recreated, emptied or restored,
// alone or with its schema, database or server.
func (w *watch) readEpoch(ctx context.Context) error {
	var epoch, catalog string
	var triggers bool
	s, err := w.d.ready(ctx, w.conn, w.d.listen, statementAge)
	if err == nil {
		var system string
		if system, err = systemOf(ctx, w.conn); err == nil {
			err = w.conn.QueryRow(ctx, epochSQL, s.table, system, s.relation.name).Scan(&epoch, &triggers, &catalog)
		}
	}
	if err != nil {
		if broken(err) && classOf(err) == directories.Down || w.conn.IsClosed() {
			return err
		}
		return nil // perhaps a migration is in progress: its next commit changes the gate
	}
	w.listener.know(triggers)
	if w.d.catalog != "" && w.d.catalog != catalog {
		w.d.lookups.statement.Store(nil)
		w.d.listen.statement.Store(nil)
	}
	if w.d.catalog = catalog; epoch != "" {
		w.reported.Epoch = epoch
	}
	return nil
}

// identityOf identifies a database, whatever its address.
func identityOf(ctx context.Context, conn *pgx.Conn) (string, error) {
	system, err := systemOf(ctx, conn)
	if err != nil {
		return "", err
	}
	var oid int64
	err = conn.QueryRow(ctx, "select oid::bigint from pg_database where datname = current_database()").Scan(&oid)
	return fmt.Sprintf("%s/%d", system, oid), err
}

// systemOf identifies the data directory of the server; empty if the role may
// not know it, as with some hosts.
func systemOf(ctx context.Context, conn *pgx.Conn) (string, error) {
	var system string
	err := conn.QueryRow(ctx, `select system_identifier::text from pg_control_system()`).Scan(&system)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "42883") {
		return "", nil
	}
	return system, err
}
