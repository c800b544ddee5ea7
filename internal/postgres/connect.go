package postgres

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// applicationName is what pg_stat_activity shows.
	applicationName = "caddy-stale-session"
	// connectTimeout bounds a connection attempt if the address does not say.
	connectTimeout = 3 * time.Second
	// queryTimeout bounds a query.
	queryTimeout = 2 * time.Second
	// maxConns is how many connections lookups use: two that take turns serve
	// more lookups than many with one query each, and leave the app its own.
	maxConns = 2
)

// purpose is what a connection is for.
type purpose int

const (
	// reading: it only reads, and neither waits nor works for long. Any server
	// will do.
	reading purpose = iota
	// confirming: the same, on a primary.
	confirming
	// writing: it has the role's own settings, on a server that accepts writes.
	writing
)

// readingSettings are those of a session that only reads.
var readingSettings = map[string]string{
	"default_transaction_read_only": "on",
	"statement_timeout":             strconv.FormatInt(queryTimeout.Milliseconds(), 10),
	"lock_timeout":                  "500",
}

// connector opens connections to the servers of one address. Every connection
// of this package comes from one.
type connector struct {
	// dsn returns the address. It is read again for each connection, so that a
	// rotated password is used.
	dsn func() (string, error)
	// address is the one that was read first.
	address address
	// pooled is set when a pooler has refused the settings of a session.
	pooled atomic.Bool

	// What was found in the catalogue belongs to the role and the search path of
	// the address.
	statement   atomic.Pointer[statement]
	discovering sync.Mutex
	database    atomic.Pointer[string] // the identity of the database that was found
}

// newConnector reads an address. It does not connect.
func newConnector(dsn func() (string, error)) (*connector, error) {
	c := &connector{dsn: dsn}
	text, err := dsn()
	if err != nil {
		return nil, err
	}
	if c.address, err = readAddress(text); err != nil {
		return nil, err
	}
	c.pooled.Store(c.address.pooled)
	_, err = c.address.poolConfig() // reports what it cannot have
	return c, err
}

// latest returns the address as it is now; the first one if it cannot be read
// any more, because that may still do.
func (c *connector) latest() address {
	if text, err := c.dsn(); err == nil {
		if latest, err := readAddress(text); err == nil {
			return latest
		}
	}
	return c.address
}

// prepare gives a connection the user and the password as they are now, and the
// settings of its purpose.
func (c *connector) prepare(config *pgx.ConnConfig, to purpose) {
	if latest, err := c.latest().poolConfig(); err == nil {
		config.User, config.Password = latest.ConnConfig.User, latest.ConnConfig.Password
	}
	switch to {
	case confirming:
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	case writing:
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
		return
	}
	if c.pooled.Load() {
		return
	}
	for name, value := range readingSettings {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
}

// connect opens a connection. Notify, which may be nil, is called with the
// notifications that arrive on it.
func (c *connector) connect(ctx context.Context, to purpose, notify pgconn.NotificationHandler) (conn *pgx.Conn, err error) {
	first, err := c.address.poolConfig()
	if err != nil {
		return nil, err
	}
	err = c.retry(func() error {
		config := first.ConnConfig.Copy()
		config.OnNotification = notify
		c.prepare(config, to)
		conn, err = pgx.ConnectConfig(ctx, config)
		return err
	})
	return conn, err
}

// pool returns a pool of connections. It does not connect.
func (c *connector) pool(to purpose) (*pgxpool.Pool, error) {
	config, err := c.address.poolConfig()
	if err != nil {
		return nil, err
	}
	if to == confirming {
		config.MaxConns = 1
	}
	config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
		c.prepare(config, to)
		return nil
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, errDSN
	}
	return pool, nil
}

// acquire takes a connection of a pool.
func (c *connector) acquire(ctx context.Context, pool *pgxpool.Pool) (conn *pgxpool.Conn, err error) {
	err = c.retry(func() error {
		conn, err = pool.Acquire(ctx)
		return err
	})
	return conn, err
}

// retry connects again if a pooler has refused the settings of a session: then
// prepare leaves them out.
func (c *connector) retry(connect func() error) error {
	err := connect()
	if !refusesSettings(err) {
		return err
	}
	c.pooled.Store(true)
	return connect()
}

// severalHosts reports whether the address names several servers, of which one
// may be the primary of another.
func (c *connector) severalHosts() bool {
	config, err := c.address.poolConfig()
	if err != nil {
		return false
	}
	first := config.ConnConfig
	return slices.ContainsFunc(first.Fallbacks, func(other *pgconn.FallbackConfig) bool {
		return other.Host != first.Host || other.Port != first.Port
	})
}

// Connect opens a connection with the role's own settings to a server that
// accepts writes. Its errors are each a *directories.Error.
func (d *Directory) Connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := d.lookups.connect(ctx, writing, nil)
	if err != nil {
		return nil, classify(err)
	}
	return conn, nil
}

// With runs a function with a connection of Connect.
func (d *Directory) With(ctx context.Context, do func(ctx context.Context, conn *pgx.Conn) error) error {
	conn, err := d.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(ctx, conn)
}
