package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// states holds the class of a SQLSTATE, or of its first two characters, with what
// goes wrong and what to do.
var states = map[string]struct {
	class directories.Class
	text  string
}{
	"08":    {directories.Down, "the connection to the database failed"},
	"57P01": {directories.Down, "the database server is shutting down or ended the connection"},
	"57P02": {directories.Down, "the database server crashed"},
	"57P03": {directories.Down, "the database server is starting up or shutting down"},
	"57P05": {directories.Down, "the database server ended an idle connection"},
	"53":    {directories.Down, "the database server is out of resources"},
	"53300": {directories.Down, adviseFull},
	"57014": {directories.Slow, "the database did not answer in time"},
	"55P03": {directories.Slow, "the users table is locked: a migration is running, perhaps"},
	"40":    {directories.Slow, "the database canceled the query: a replica had to catch up, perhaps"},
	"28000": {directories.Refused, "the database refuses the user: there is no such user, or pg_hba.conf has no rule for it from this host; some rules need TLS: add sslmode=require to the address"},
	"28":    {directories.Refused, advisePassword},
	"3D000": {directories.Refused, adviseDatabase},
	"55000": {directories.Refused, "the database accepts no connections: run ALTER DATABASE … ALLOW_CONNECTIONS true"},
	"42501": {directories.Rights, "the role may not read the users table: GRANT USAGE ON its schema, and SELECT ON the table or its columns"},
	"42P01": {directories.Schema, "the users table does not exist: a migration is running, or `users` or `query` is wrong"},
	"3F000": {directories.Schema, "the schema of the users table does not exist: a migration is running, or `users` or `query` is wrong"},
	"42703": {directories.Schema, "a column of the users table does not exist: a migration is running, or `users` or `query` is wrong"},
	"42":    {directories.Schema, "the database rejects the query: the users table has changed, or `query` is wrong"},
	"0A000": {directories.Schema, "the users table has changed"},
}

// classify converts an error of the driver to a *directories.Error.
func classify(err error) error {
	var known *directories.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	var (
		pg          *pgconn.PgError
		network     net.Error
		connect     *pgconn.ConnectError
		unknown     *net.DNSError
		certificate *tls.CertificateVerificationError
	)
	connecting := errors.As(err, &connect)
	if connecting {
		if r := find(failures, err.Error()); r != nil {
			return &directories.Error{Class: r.class, Text: r.text}
		}
	}
	if errors.As(err, &pg) {
		if r := refusalOf(pg); r != nil {
			return &directories.Error{Class: r.class, Code: pg.Code, Text: r.text}
		}
		if connecting && pg.Code == "42501" {
			return &directories.Error{Class: directories.Refused, Code: pg.Code, Text: adviseConnect}
		}
		for _, code := range []string{pg.Code, pg.Code[:min(2, len(pg.Code))]} {
			if state, ok := states[code]; ok {
				return &directories.Error{Class: state.class, Code: pg.Code, Text: state.text}
			}
		}
		return &directories.Error{Class: directories.Other, Code: pg.Code, Text: "the database returned an error"}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &directories.Error{Class: directories.Slow, Text: "the database did not answer in time"}
	case errors.As(err, &network) && network.Timeout():
		return &directories.Error{Class: directories.Slow, Text: "the database did not answer in time"}
	case errors.As(err, &certificate):
		return &directories.Error{Class: directories.Down, Text: "the certificate of the database server is not trusted: add sslrootcert=FILE with its authority to the address, and use the host that the certificate is for"}
	case connecting:
		why := "is the server running, and can it be reached from here?"
		if errors.As(err, &unknown) {
			why = "there is no such host"
		}
		return &directories.Error{Class: directories.Down, Text: fmt.Sprintf("no connection to the database at %s: %s", hostOf(connect.Config), why)}
	}
	return &directories.Error{Class: directories.Down, Text: "the connection to the database failed"}
}

// hostOf returns the host and port of a server.
func hostOf(config *pgconn.Config) string {
	if config == nil {
		return "an unknown host"
	}
	if strings.HasPrefix(config.Host, "/") {
		return config.Host
	}
	return net.JoinHostPort(config.Host, fmt.Sprint(config.Port))
}

// broken reports whether a connection failed, so that another one may succeed.
func broken(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "57P0")
	}
	return !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// classOf returns the class of an error.
func classOf(err error) directories.Class {
	var e *directories.Error
	if errors.As(classify(err), &e) {
		return e.Class
	}
	return directories.Other
}

// Classify converts an error of the driver to a *directories.Error, which says
// what to do and never holds a password.
func Classify(err error) error { return classify(err) }

// sqlState returns the SQLSTATE of an error; empty if the server gave none.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
