package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// epochSQL returns a fingerprint of the users table, and whether it has triggers.
// The fingerprint is empty while there is no table. It takes no rights to that.
const epochSQL = `select coalesce(($2::text || ' ' || d.oid || ' ' || c.oid || ' ' || coalesce(pg_relation_filenode(c.oid), 0)), ''),
  exists (select from pg_trigger t where t.tgname = '` + deleteTrigger + `' and t.tgenabled <> 'D'
    and (t.tgrelid = c.oid or coalesce(c.relkind, 'v') not in ('r', 'p')))
from pg_database d left join (pg_class c join pg_namespace n on n.oid = c.relnamespace)
  on n.nspname = (parse_ident(nullif($1, '')))[1] and c.relname = (parse_ident(nullif($1, '')))[2]
where d.datname = current_database()`

// readEpoch detects that the users table was recreated, emptied or restored,
// alone or with its schema, database or server; and that the role lost its rights
// to it.
func (w *watch) readEpoch(ctx context.Context) error {
	var epoch string
	var triggers bool
	s, err := w.d.ready(ctx, w.conn, w.d.listen, statementAge)
	if err == nil {
		var system string
		if system, err = systemOf(ctx, w.conn); err == nil {
			err = w.conn.QueryRow(ctx, epochSQL, s.table, system).Scan(&epoch, &triggers)
		}
	}
	if err == nil {
		w.listener.know(triggers)
		if epoch != "" && w.d.epoch != "" && w.d.epoch != epoch {
			w.d.lookups.statement.Store(nil) // the columns may have changed
			w.d.listen.statement.Store(nil)
			_, err = w.d.ready(ctx, w.conn, w.d.listen, 0)
		}
	}
	if epoch != "" {
		w.d.epoch, w.reported.Epoch = epoch, epoch
	}
	if err != nil && (broken(err) && classOf(err) == directories.Down || w.conn.IsClosed()) {
		return err
	}
	w.reported.Failure = nil
	if classOf(err) == directories.Rights && w.d.listen == w.d.lookups {
		w.reported.Failure = classify(err)
	}
	return nil // other errors: perhaps a migration is in progress, whose next commit changes the gate
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
