package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// Diagnose looks for what keeps accounts from being looked up, or changes from
// being noticed. It writes nothing, but sends a notification.
func (d *Directory) Diagnose(ctx context.Context) []directories.Finding {
	conn, err := d.lookups.acquire(ctx, d.pool)
	if err != nil {
		return []directories.Finding{{directories.Bad, "no connection to the " + d.String(), classify(err).Error()}}
	}
	defer conn.Release()
	found, s := d.diagnoseTable(ctx, conn.Conn())
	if s == nil {
		return found
	}
	found = append(append(found, diagnoseRole(ctx, conn.Conn(), s)...), diagnoseRevocations(ctx, conn.Conn())...)
	return append(found, d.diagnoseWatch(ctx, conn.Conn(), s)...)
}

// revocationsSQL tells whether the role may use the table of revocations; no
// row when there is none. It does not name the table, which would be an error
// without the right to its schema.
const revocationsSQL = `select has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
  and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'), current_user
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'stale_session' and c.relname = 'revocations'`

// diagnoseRevocations looks at what the role may do with the revocations that
// nodes share.
func diagnoseRevocations(ctx context.Context, conn *pgx.Conn) []directories.Finding {
	var may bool
	var role string
	err := conn.QueryRow(ctx, revocationsSQL).Scan(&may, &role)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return []directories.Finding{{directories.Bad, "the table of revocations cannot be looked at", classify(err).Error()}}
	case !may: // which `revocations` in Redis does not need
		return []directories.Finding{{directories.Note, "the role may not use the table stale_session.revocations: unless `revocations` is in Redis, what one node revokes no other one knows", "caddy stale-session install --grant " + role + ", with the address of the owner"}}
	}
	return []directories.Finding{{directories.Good, "nodes share revocations through the table stale_session.revocations", ""}}
}

// diagnoseTable looks at the server and the users table.
func (d *Directory) diagnoseTable(ctx context.Context, conn *pgx.Conn) ([]directories.Finding, *statement) {
	var version string
	var standby bool
	if err := conn.QueryRow(ctx, "select current_setting('server_version'), pg_is_in_recovery()").Scan(&version, &standby); err != nil {
		return []directories.Finding{{directories.Bad, "the " + d.String() + " does not answer", classify(err).Error()}}, nil
	}
	found := []directories.Finding{{directories.Good, "the " + d.String() + " answers: Postgres " + version, ""}}
	if standby {
		found = append(found, directories.Finding{directories.Note, "it is a standby", "name the primary too, as in host=standby,primary, so that a user who is not found is looked for there before a session ends"})
	}
	s, err := d.ready(ctx, conn, d.lookups, 0)
	if err != nil {
		return append(found, directories.Finding{directories.Bad, "the users table is not found", classify(err).Error()}), nil
	}
	if _, err := conn.Exec(ctx, s.sql, []string{}); err != nil {
		return append(found, directories.Finding{directories.Bad, "users cannot be looked up in " + s.named(), classify(err).Error()}), nil
	}
	found = append(found, directories.Finding{directories.Good, "users are looked up in " + s.named() + ": " + s.columns, ""})
	if s.scans {
		found = append(found, directories.Finding{directories.Bad, "the id column has no index: each lookup reads the whole table", fmt.Sprintf("CREATE UNIQUE INDEX ON %s (%s)", s.table, quote(s.users.ID))})
	}
	return found, s
}

// named names where the statement reads from.
func (s *statement) named() string {
	if s.table == "" {
		return "`query`"
	}
	return s.table
}

// diagnoseRole looks at the rows, and at what the role may do with them.
func diagnoseRole(ctx context.Context, conn *pgx.Conn, s *statement) []directories.Finding {
	if s.table == "" {
		return nil
	}
	var found []directories.Finding
	var rows, writes bool
	err := conn.QueryRow(ctx, "select exists (select from "+s.table+"), has_table_privilege($1, 'insert, update, delete')", s.table).Scan(&rows, &writes)
	switch {
	case err != nil:
		return []directories.Finding{{directories.Bad, "the users table cannot be read", classify(err).Error()}}
	case !rows:
		found = append(found, directories.Finding{directories.Note, "the users table has no rows: every session is stale", "seed it; or is it another database, schema or search_path than the app's, or does row-level security hide its rows?"})
	}
	if writes {
		found = append(found, directories.Finding{directories.Note, "the role can write to the users table, which is not needed", "give the module a role of its own that can only read: see the README"})
	}
	return found
}

// diagnoseWatch looks at how changes are noticed.
func (d *Directory) diagnoseWatch(ctx context.Context, conn *pgx.Conn, s *statement) []directories.Finding {
	var epoch string
	var triggers bool
	if err := conn.QueryRow(ctx, epochSQL, s.table, "").Scan(&epoch, &triggers); err != nil {
		return []directories.Finding{{directories.Bad, "changes cannot be watched for", classify(err).Error()}}
	}
	heard, err := d.hears(ctx, conn)
	switch {
	case err != nil:
		return []directories.Finding{{directories.Note, "notifications cannot be tried: changes are noticed within the poll interval", classify(err).Error()}}
	case !heard:
		return []directories.Finding{{directories.Note, "notifications do not arrive, as behind a transaction pooler: changes are noticed within the poll interval", "give the database's direct address as `listen_database`"}}
	case !triggers:
		return []directories.Finding{{directories.Note, "the users table has no triggers: changes are noticed within the poll interval", "caddy stale-session install makes it milliseconds"}}
	}
	return []directories.Finding{{directories.Good, "changes of users are notified", ""}}
}

// hears tells whether a notification arrives where the watch would listen.
func (d *Directory) hears(ctx context.Context, sender *pgx.Conn) (bool, error) {
	arrived := make(chan struct{}, 1)
	name := channel + "_" + strings.ToLower(rand.Text()) // nobody else's
	listener, err := d.listen.connect(ctx, reading, func(*pgconn.PgConn, *pgconn.Notification) {
		select {
		case arrived <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return false, err
	}
	defer listener.Close(context.WithoutCancel(ctx))
	if _, err := listener.Exec(ctx, "listen "+name); err != nil {
		return false, err
	}
	if _, err := sender.Exec(ctx, "select pg_notify($1, '')", name); err != nil {
		return false, err
	}
	wait, cancel := context.WithTimeout(ctx, echoWithin)
	defer cancel()
	_ = listener.PgConn().WaitForNotification(wait) // whether one has come tells
	select {
	case <-arrived:
		return true, nil
	default:
		return false, ctx.Err()
	}
}
