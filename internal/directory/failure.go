package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Class is a kind of failure to look an account up.
type Class string

// The classes of failures.
const (
	// Down: the server cannot be reached or takes no connection.
	Down Class = "down"
	// Slow: it did not answer in time.
	Slow Class = "slow"
	// Refused: the database, the user or the password is not accepted.
	Refused Class = "refused"
	// Schema: the table or a column is missing or is not what it should be.
	Schema Class = "schema"
	// Rights: the role may not read.
	Rights Class = "rights"
	// Standby: a standby server has no such row, which proves nothing.
	Standby Class = "standby"
	// Busy: too many lookups are under way.
	Busy Class = "busy"
	// Other: anything else.
	Other Class = "other"
)

// Classes are all of them.
var Classes = []Class{Down, Slow, Refused, Schema, Rights, Standby, Busy, Other}

// Error is a failure to look an account up. It says what to do, and never
// holds a subject or a password.
type Error struct {
	// Class is the kind of failure.
	Class Class
	// Code is the SQLSTATE, empty when the server gave none.
	Code string
	text string
}

// Error says what failed and what to do.
func (e *Error) Error() string {
	if e.Code == "" {
		return e.text
	}
	return e.text + " (SQLSTATE " + e.Code + ")"
}

// states tells the class of a SQLSTATE, or of its first two characters, and
// what to do.
var states = map[string]struct {
	class Class
	text  string
}{
	"08":    {Down, "the connection to the database failed"},
	"57P01": {Down, "the database server is shutting down or ended the connection"},
	"57P02": {Down, "the database server crashed"},
	"57P03": {Down, "the database server is starting up or shutting down"},
	"57P05": {Down, "the database server ended an idle connection"},
	"53":    {Down, "the database server is out of resources"},
	"53300": {Down, "the database takes no more connections: raise max_connections, or the limit of the role; lookups need two"},
	"57014": {Slow, "the database did not answer in time"},
	"55P03": {Slow, "the users table is locked, by a migration perhaps"},
	"40":    {Slow, "the database broke the query off: a replica that caught up, perhaps"},
	"28000": {Refused, "the database does not let the user in: there is no such user, or no rule in pg_hba.conf for it from here (some only let it in with TLS: sslmode=require in the address)"},
	"28":    {Refused, "the database does not accept the user or its password: check `database`"},
	"3D000": {Refused, "the database does not exist, or is being recreated"},
	"42501": {Rights, "the role may not read the users table: GRANT USAGE ON its schema and SELECT ON the table or its columns"},
	"42P01": {Schema, "the users table does not exist: a migration is running, or `users` or `query` is wrong"},
	"3F000": {Schema, "the schema of the users table does not exist: a migration is running, or `users` or `query` is wrong"},
	"42703": {Schema, "a column of the users table does not exist: a migration is running, or `users` or `query` is wrong"},
	"42":    {Schema, "the database refuses the query: the users table has changed, or `query` is wrong"},
	"0A000": {Schema, "the users table has changed"},
}

// classify makes an Error of an error of the driver.
func classify(err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		for _, code := range []string{pg.Code, pg.Code[:min(2, len(pg.Code))]} {
			if state, ok := states[code]; ok {
				return &Error{Class: state.class, Code: pg.Code, text: state.text}
			}
		}
		return &Error{Class: Other, Code: pg.Code, text: "the database answered with an error"}
	}
	var (
		network     net.Error
		connect     *pgconn.ConnectError
		unknown     *net.DNSError
		certificate *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Class: Slow, text: "the database did not answer in time"}
	case errors.As(err, &network) && network.Timeout():
		return &Error{Class: Slow, text: "the database did not answer in time"}
	case errors.As(err, &certificate):
		return &Error{Class: Down, text: "the certificate of the database server is not trusted: name its authority by sslrootcert=FILE in the address, and the host that the certificate is for"}
	case strings.Contains(err.Error(), "server refused TLS connection"): // pgconn has no name for it
		return &Error{Class: Down, text: "the database server has no TLS: sslmode=disable in the address does without"}
	case errors.As(err, &connect):
		why := "is the server running, and can it be reached from here?"
		if errors.As(err, &unknown) {
			why = "there is no such host"
		}
		return &Error{Class: Down, text: fmt.Sprintf("no connection to the database at %s: %s", hostOf(connect.Config), why)}
	}
	return &Error{Class: Down, text: "the connection to the database failed"}
}

// hostOf names a server without a user, a password or options.
func hostOf(config *pgconn.Config) string {
	if config == nil {
		return "an unknown place"
	}
	if strings.HasPrefix(config.Host, "/") {
		return config.Host
	}
	return net.JoinHostPort(config.Host, fmt.Sprint(config.Port))
}

// broken tells whether an error is one of a connection, so that another one
// may do better.
func broken(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "57P0")
	}
	return !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// refusesSettings tells whether a pooler refused a connection for settings of
// a session.
func refusesSettings(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "08P01" && strings.Contains(pg.Message, "unsupported startup parameter")
}
