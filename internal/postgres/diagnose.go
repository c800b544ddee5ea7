package postgres

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// Diagnose implements directories.Diagnoser. It writes nothing, but sends a
// notification.
func (d *Directory) Diagnose(ctx context.Context) []directories.Finding {
	conn, err := d.lookups.acquire(ctx, d.pool)
	if err != nil {
		return append([]directories.Finding{bad("no connection to the "+d.String(), classify(err).Error())}, d.diagnoseListen(ctx)...)
	}
	defer conn.Release()
	found, s := d.diagnoseTable(ctx, conn.Conn())
	if s == nil {
		return append(found, d.diagnoseListen(ctx)...)
	}
	found = append(found, diagnoseIDs(s)...)
	found = append(found, diagnoseRole(ctx, conn.Conn(), s)...)
	return append(found, d.diagnoseWatch(ctx, conn.Conn(), s)...)
}

// diagnoseTable checks the server and the users table.
func (d *Directory) diagnoseTable(ctx context.Context, conn *pgx.Conn) ([]directories.Finding, *statement) {
	var version string
	var standby bool
	if err := conn.QueryRow(ctx, "select current_setting('server_version'), pg_is_in_recovery()").Scan(&version, &standby); err != nil {
		return []directories.Finding{bad("the "+d.String()+" does not answer", classify(err).Error())}, nil
	}
	found := []directories.Finding{good("the " + d.String() + " answers: Postgres " + version)}
	if standby {
		found = append(found, d.diagnosePrimary(ctx))
	}
	s, err := d.try(ctx, conn, d.lookups)
	switch {
	case s == nil:
		return append(found, badTable("the users table is not found", err)), nil
	case err != nil:
		return append(found, badTable("users cannot be looked up in "+s.named(), err)), nil
	}
	found = append(found, good("users are looked up in "+s.named()+": "+s.columns))
	if s.table != "" && !s.index.indexed {
		found = append(found, bad("the id column has no index: each lookup reads the whole table", fmt.Sprintf("CREATE UNIQUE INDEX ON %s (%s)", s.table, quote(s.users.ID))))
	}
	return append(found, d.diagnoseProof(ctx, conn, s)...), s
}

// try reads the catalog, and looks nobody up.
func (d *Directory) try(ctx context.Context, conn *pgx.Conn, c *connector) (*statement, error) {
	s, err := d.ready(ctx, conn, c, 0)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, s.sql, []string{}); err != nil {
		return s, d.lost(ctx, conn, c, s, err)
	}
	return s, nil
}

// diagnosePrimary checks that a primary confirms what a standby says.
func (d *Directory) diagnosePrimary(ctx context.Context) directories.Finding {
	if d.primary == nil {
		return note("it is a standby", "add the primary to the address, as in host=standby,primary: it confirms that a user is gone before a session ends")
	}
	conn, err := d.lookups.acquire(ctx, d.primary)
	if err == nil {
		defer conn.Release()
		_, err = d.try(ctx, conn.Conn(), d.lookups)
	}
	if err != nil {
		return bad("it is a standby, and the primary is not available: a user who is gone may keep the session", classify(err).Error())
	}
	return good("it is a standby, and the primary answers")
}

// named returns the table, or the option that replaces it.
func (s *statement) named() string {
	if s.table == "" {
		return "`query`"
	}
	return s.table
}

// diagnoseRole checks the rows, and the rights to them.
func diagnoseRole(ctx context.Context, conn *pgx.Conn, s *statement) []directories.Finding {
	if s.table == "" {
		return nil
	}
	var found []directories.Finding
	var rows, writes bool
	err := conn.QueryRow(ctx, "select exists (select from "+s.table+"), has_table_privilege($1, 'insert, update, delete')", s.table).Scan(&rows, &writes)
	switch {
	case err != nil:
		return []directories.Finding{bad("cannot read the users table", classify(err).Error())}
	case !rows:
		found = append(found, note("the users table has no rows: every session is stale", "seed it; or check that database, schema and search_path are the app's, and that row-level security does not hide the rows"))
	}
	if writes {
		found = append(found, note("the role can write to the users table, which is not needed", "use a separate role that can only read: see the README"))
	}
	return found
}

// diagnoseWatch checks how changes are noticed.
func (d *Directory) diagnoseWatch(ctx context.Context, conn *pgx.Conn, s *statement) []directories.Finding {
	if d.listen != d.lookups {
		if err := d.compareWatch(ctx); err != nil {
			return []directories.Finding{bad("active users are not re-checked when something changes", err.Error())}
		}
	}
	triggers, err := readTriggers(ctx, conn, s)
	if err != nil {
		return []directories.Finding{bad("cannot watch for changes", classify(err).Error())}
	}
	if triggers == triggersOutdated { // also where notifications do not arrive
		return []directories.Finding{triggers.finding()}
	}
	received, err := d.receives(ctx, conn)
	switch {
	case err != nil:
		return []directories.Finding{note("cannot test notifications: changes are noticed within the poll interval", classify(err).Error())}
	case !received:
		return []directories.Finding{note("notifications do not arrive, as behind a transaction pooler: changes are noticed within the poll interval", "set `listen_database` to the direct address of the database")}
	}
	return []directories.Finding{triggers.finding()}
}

// diagnoseListen checks the other address while it cannot be compared with the first.
func (d *Directory) diagnoseListen(ctx context.Context) []directories.Finding {
	if d.listen == d.lookups {
		return nil
	}
	conn, err := d.listen.connect(ctx, reading, nil)
	if err != nil {
		return []directories.Finding{bad("no connection to `listen_database`", classify(err).Error())}
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return []directories.Finding{good("`listen_database` answers")}
}

// compareWatch returns an error if the connection that watches cannot be opened,
// or does not read what lookups read.
func (d *Directory) compareWatch(ctx context.Context) error {
	conn, err := d.listen.connect(ctx, reading, nil)
	if err != nil {
		return listenError(classify(err))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := d.try(ctx, conn, d.listen); err != nil {
		return listenError(classify(err))
	}
	return d.differs()
}

// receives reports whether a notification is received where the watch would
// listen.
func (d *Directory) receives(ctx context.Context, sender *pgx.Conn) (bool, error) {
	received := make(chan struct{}, 1)
	name := channel + "_" + strings.ToLower(rand.Text()) // unused
	listener, err := d.listen.connect(ctx, reading, func(*pgconn.PgConn, *pgconn.Notification) {
		select {
		case received <- struct{}{}:
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
	_ = listener.PgConn().WaitForNotification(wait) // received says more
	select {
	case <-received:
		return true, nil
	default:
		return false, ctx.Err()
	}
}

func good(text string) directories.Finding {
	return directories.Finding{Level: directories.Good, Text: text}
}

func note(text, remedy string) directories.Finding {
	return directories.Finding{Level: directories.Note, Text: text, Remedy: remedy}
}

func bad(text, remedy string) directories.Finding {
	return directories.Finding{Level: directories.Bad, Text: text, Remedy: remedy}
}
