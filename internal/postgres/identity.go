package postgres

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Identity identifies users, whatever the address of their database is.
type Identity struct {
	// Database identifies the database: the server's data directory, and the id in
	// it. The former is empty where the role may not know it.
	Database string
	// Table is the name of the users table, with its schema and quoted; that of the
	// query if Config.Query replaces it.
	Table string
}

// String returns the identity; empty if only the address tells the database.
func (i Identity) String() string {
	if i.Database == "" || i.Database[0] == '/' {
		return ""
	}
	return i.Table + " in database " + i.Database
}

// Identity returns the users as they were identified last, empty if that fails. It
// asks the database only if they never were: one that sleeps stays asleep.
func (d *Directory) Identity(ctx context.Context) Identity {
	users, known := d.known()
	if !known {
		_ = d.Read(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
			users, err = d.Identify(ctx, conn)
			return err
		})
	}
	return users
}

// Identify identifies the users by what a connection reads. While the table cannot
// be read, as in the middle of a reset, they are those identified last.
func (d *Directory) Identify(ctx context.Context, conn *pgx.Conn) (Identity, error) {
	if users, known := d.known(); known {
		return users, nil
	}
	d.lookups.discovering.Lock()
	defer d.lookups.discovering.Unlock()
	s, err := d.discover(ctx, conn, d.lookups)
	if err != nil {
		return Identity{}, err
	}
	database, err := identityOf(ctx, conn)
	if err != nil {
		return Identity{}, err
	}
	return d.identify(s, database), nil
}

// known returns the users as lookups identify them, or as they were identified last;
// false if they never were.
func (d *Directory) known() (Identity, bool) {
	if s, database := d.lookups.statement.Load(), d.lookups.database.Load(); s != nil && database != nil {
		return d.identify(s, *database), true
	}
	if last := d.identified.Load(); last != nil {
		return *last, true
	}
	return Identity{}, false
}

func (d *Directory) identify(s *statement, database string) Identity {
	users := Identity{Database: database, Table: cmp.Or(s.table, d.queryName())}
	d.identified.Store(&users)
	return users
}

// queryName names Config.Query: several of them are of different users.
func (d *Directory) queryName() string {
	digest := sha256.Sum256([]byte(d.config.Query))
	return "query " + hex.EncodeToString(digest[:4])
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
