package postgres

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
)

const (
	// applicationName is the name in pg_stat_activity.
	applicationName = "caddy-stale-session"
	// maxConns is the maximum number of connections for lookups. Two that batch
	// serve more lookups than many with one query each.
	maxConns = 2
)

// purpose is what a connection is for.
type purpose int

const (
	// reading: read-only, with short timeouts, on any server.
	reading purpose = iota
	// confirming: the same, on a primary.
	confirming
	// writing: with the role's own settings, on a server that accepts writes.
	writing
)

// readingSettings are the settings of a read-only session, beside its timeouts.
var readingSettings = map[string]string{
	"default_transaction_read_only": "on",
	"row_security":                  "on", // secured switches it off
}

// connector opens connections to the servers of one address. Every connection
// of this package comes from one.
type connector struct {
	// dsn returns the address. It is called again for each connection, so that a
	// rotated password is used.
	dsn func() (string, error)
	// address is the first address.
	address address
	// pooled is set once a pooler has refused the settings of a session.
	pooled atomic.Bool

	// What the catalog says depends on the role and the search path.
	statement   atomic.Pointer[statement]
	discovering sync.Mutex
	database    atomic.Pointer[string] // its identity, see identityOf
	pinned      pinned                 // guarded by discovering
	readable    atomic.Pointer[readable]
}

// newConnector returns a connector. It does not connect.
func newConnector(dsn func() (string, error)) (*connector, error) {
	c := &connector{dsn: dsn}
	text, err := dsn()
	if err != nil {
		return nil, err
	}
	if c.address, err = parseAddress(text); err != nil {
		return nil, err
	}
	c.pooled.Store(c.address.pooled)
	_, err = c.address.poolConfig() // to report invalid parameters
	return c, err
}

// latest returns the current address; the first one if there is an error, because
// it may still work.
func (c *connector) latest() address {
	if text, err := c.dsn(); err == nil {
		if latest, err := parseAddress(text); err == nil {
			return latest
		}
	}
	return c.address
}

// prepare sets the current user and password, and the settings of the purpose.
func (c *connector) prepare(config *pgx.ConnConfig, use purpose) {
	if latest, err := c.latest().poolConfig(); err == nil {
		config.User, config.Password = latest.ConnConfig.User, latest.ConnConfig.Password
	}
	switch use {
	case confirming:
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	case writing:
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
		return
	}
	if c.pooled.Load() {
		return
	}
	settings := maps.Clone(readingSettings)
	settings["statement_timeout"] = strconv.FormatInt(deadline.Query.Milliseconds(), 10)
	settings["lock_timeout"] = strconv.FormatInt(deadline.Lock.Milliseconds(), 10)
	for name, value := range settings {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
}

// connect opens a connection. It calls notify, which may be nil, with the
// notifications that it receives.
func (c *connector) connect(ctx context.Context, use purpose, notify pgconn.NotificationHandler) (conn *pgx.Conn, err error) {
	first, err := c.address.poolConfig()
	if err != nil {
		return nil, err
	}
	err = c.retry(func() error {
		config := first.ConnConfig.Copy()
		config.OnNotification = notify
		c.prepare(config, use)
		conn, err = pgx.ConnectConfig(ctx, config)
		return err
	})
	return conn, err
}

// pool returns a pool of connections. It does not connect.
func (c *connector) pool(use purpose) (*pgxpool.Pool, error) {
	config, err := c.address.poolConfig()
	if err != nil {
		return nil, err
	}
	if use == confirming {
		config.MaxConns = 1
	}
	config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
		c.prepare(config, use)
		return nil
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, errAddress
	}
	return pool, nil
}

// acquire acquires a connection of a pool.
func (c *connector) acquire(ctx context.Context, pool *pgxpool.Pool) (conn *pgxpool.Conn, err error) {
	err = c.retry(func() error {
		conn, err = pool.Acquire(ctx)
		return err
	})
	return conn, err
}

// retry connects again if a pooler refuses the settings of a session: then
// prepare omits them.
func (c *connector) retry(connect func() error) error {
	err := connect()
	if !refusesSettings(err) {
		return err
	}
	c.pooled.Store(true)
	if err = connect(); refusesSettings(err) { // those of the address
		c.pooled.Store(c.address.pooled)
	}
	return err
}

// severalHosts reports whether the address names several servers: one may be the
// primary of another.
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
// accepts writes. Errors are of type *directories.Error.
func (d *Directory) Connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := d.lookups.connect(ctx, writing, nil)
	if err != nil {
		return nil, classify(err)
	}
	return conn, nil
}

// Disconnect closes the connections for lookups. The next lookup opens another.
func (d *Directory) Disconnect() {
	for _, pool := range []*pgxpool.Pool{d.pool, d.primary} {
		if pool != nil {
			pool.Reset()
		}
	}
}

// With calls do with a connection of Connect, and closes it.
func (d *Directory) With(ctx context.Context, do func(ctx context.Context, conn *pgx.Conn) error) error {
	conn, err := d.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(ctx, conn)
}
