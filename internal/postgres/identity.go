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

// Identify identifies the users by what a connection reads. While the table cannot
// be read, as in the middle of a reset, they are those identified last.
func (d *Directory) Identify(ctx context.Context, conn *pgx.Conn) (Identity, error) {
	s, database := d.lookups.statement.Load(), d.lookups.database.Load()
	if s == nil || database == nil {
		if last := d.identified.Load(); last != nil {
			return *last, nil
		}
		d.lookups.discovering.Lock()
		defer d.lookups.discovering.Unlock()
		var err error
		if s, err = d.discover(ctx, conn, d.lookups); err != nil {
			return Identity{}, err
		}
		known, err := identityOf(ctx, conn)
		if err != nil {
			return Identity{}, err
		}
		database = &known
	}
	users := Identity{Database: *database, Table: cmp.Or(s.table, d.queryName())}
	d.identified.Store(&users)
	return users, nil
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
