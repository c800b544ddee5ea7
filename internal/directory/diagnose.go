package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Level tells how grave a finding is.
type Level string

// The levels.
const (
	// Good is as it should be.
	Good Level = "good"
	// Note is worth knowing.
	Note Level = "note"
	// Bad keeps the module from doing its work.
	Bad Level = "bad"
)

// Finding is something about a configuration, or its surroundings.
type Finding struct {
	// Level tells how grave it is.
	Level Level `json:"level"`
	// Text is what was found.
	Text string `json:"text"`
	// Remedy is what to do about it; empty for nothing.
	Remedy string `json:"remedy,omitempty"`
}

// Diagnose looks for what keeps accounts from being looked up, or changes from
// being noticed. It writes nothing, but sends a notification.
func (p *Postgres) Diagnose(ctx context.Context) []Finding {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return []Finding{{Bad, "no connection to the " + p.String(), classify(err).Error()}}
	}
	defer conn.Release()
	found, s := p.diagnoseTable(ctx, conn.Conn())
	if s == nil {
		return found
	}
	found = append(append(found, diagnoseRole(ctx, conn.Conn(), s)...), diagnoseRevocations(ctx, conn.Conn())...)
	return append(found, p.diagnoseWatch(ctx, conn.Conn(), s)...)
}

// revocationsSQL tells whether the role may use the table of revocations; no
// row when there is none. It does not name the table, which would be an error
// without the right to its schema.
const revocationsSQL = `select has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
  and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'), current_user
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'stale_session' and c.relname = 'revocations'`

// diagnoseRevocations looks at what the role may do with the revocations that
// nodes share.
func diagnoseRevocations(ctx context.Context, conn *pgx.Conn) []Finding {
	var may bool
	var role string
	err := conn.QueryRow(ctx, revocationsSQL).Scan(&may, &role)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return []Finding{{Bad, "the table of revocations cannot be looked at", classify(err).Error()}}
	case !may: // which `revocations` in Redis does not need
		return []Finding{{Note, "the role may not use the table stale_session.revocations: unless `revocations` is in Redis, what one node revokes no other one knows", "caddy stale-session install --grant " + role + ", with the address of the owner"}}
	}
	return []Finding{{Good, "nodes share revocations through the table stale_session.revocations", ""}}
}

// diagnoseTable looks at the server and the users table.
func (p *Postgres) diagnoseTable(ctx context.Context, conn *pgx.Conn) ([]Finding, *statement) {
	var version string
	var standby bool
	if err := conn.QueryRow(ctx, "select current_setting('server_version'), pg_is_in_recovery()").Scan(&version, &standby); err != nil {
		return []Finding{{Bad, "the " + p.String() + " does not answer", classify(err).Error()}}, nil
	}
	found := []Finding{{Good, "the " + p.String() + " answers: Postgres " + version, ""}}
	if standby {
		found = append(found, Finding{Note, "it is a standby", "name the primary too, as in host=standby,primary, so that a user who is not found is looked for there before a session ends"})
	}
	s, err := p.ready(ctx, conn, 0)
	if err != nil {
		return append(found, Finding{Bad, "the users table is not found", classify(err).Error()}), nil
	}
	if _, err := conn.Exec(ctx, s.sql, []string{}); err != nil {
		return append(found, Finding{Bad, "users cannot be looked up in " + s.named(), classify(err).Error()}), nil
	}
	found = append(found, Finding{Good, "users are looked up in " + s.named() + ": " + s.summary, ""})
	if s.scans {
		found = append(found, Finding{Bad, "the id column has no index: each lookup reads the whole table", fmt.Sprintf("CREATE UNIQUE INDEX ON %s (%s)", s.table, quote(s.users.ID))})
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
func diagnoseRole(ctx context.Context, conn *pgx.Conn, s *statement) []Finding {
	if s.table == "" {
		return nil
	}
	var found []Finding
	var rows, writes bool
	err := conn.QueryRow(ctx, "select exists (select from "+s.table+"), has_table_privilege($1, 'insert, update, delete')", s.table).Scan(&rows, &writes)
	switch {
	case err != nil:
		return []Finding{{Bad, "the users table cannot be read", classify(err).Error()}}
	case !rows:
		found = append(found, Finding{Note, "the users table has no rows: every session is stale", "seed it; or is it another database, schema or search_path than the app's, or does row-level security hide its rows?"})
	}
	if writes {
		found = append(found, Finding{Note, "the role can write to the users table, which is not needed", "give the module a role of its own that can only read: see the README"})
	}
	return found
}

// diagnoseWatch looks at how changes are noticed.
func (p *Postgres) diagnoseWatch(ctx context.Context, conn *pgx.Conn, s *statement) []Finding {
	if p.watch == nil {
		return []Finding{{Note, "`poll off`: a change is noticed once a cached account has aged", "take it away, unless the database is to fall asleep"}}
	}
	var epoch string
	var triggers bool
	if err := conn.QueryRow(ctx, epochSQL, s.table, "").Scan(&epoch, &triggers); err != nil {
		return []Finding{{Bad, "changes cannot be watched for", classify(err).Error()}}
	}
	heard, err := p.hears(ctx, conn)
	switch {
	case err != nil:
		return []Finding{{Note, "notifications cannot be tried: changes are noticed within the poll interval, " + p.config.Poll.String(), classify(err).Error()}}
	case !heard:
		return []Finding{{Note, "notifications do not arrive, as behind a transaction pooler: changes are noticed within the poll interval, " + p.config.Poll.String(), "give the database's direct address as `listen_database`"}}
	case !triggers:
		return []Finding{{Note, "the users table has no triggers: changes are noticed within the poll interval, " + p.config.Poll.String(), "caddy stale-session install makes it milliseconds"}}
	}
	return []Finding{{Good, "changes of users are notified", ""}}
}

// hears tells whether a notification arrives where the watch would listen.
func (p *Postgres) hears(ctx context.Context, sender *pgx.Conn) (bool, error) {
	config := p.watch.config.Copy()
	arrived := make(chan struct{}, 1)
	name := channel + "_" + strings.ToLower(rand.Text()) // nobody else's
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {
		select {
		case arrived <- struct{}{}:
		default:
		}
	}
	listener, err := pgx.ConnectConfig(ctx, config)
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
