// Package postgres looks users up in a table of a Postgres database, and
// notices its changes.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// closeTimeout bounds the wait for a server in Close.
const closeTimeout = time.Second

// Directory looks users up in a Postgres database.
type Directory struct {
	config  Config
	lookups *connector
	listen  *connector // for the connection that watches for changes

	pool    *pgxpool.Pool
	primary *pgxpool.Pool // nil if the address names one host
	standby atomic.Bool   // the last lookup on pool was answered by a standby

	running context.Context // until Close
	stop    context.CancelFunc

	found foundIn
	ids   atomic.Pointer[idType] // of the last statement

	subscribers subscribers
	following   atomic.Bool              // there is a watch, which calls them
	identified  atomic.Pointer[Identity] // the users, as identified last
	state       atomic.Int32             // of the listener
	outdated    atomic.Bool              // the triggers are of an earlier version
	restoring   atomic.Bool              // the triggers are being created again
	echoEvery   time.Duration
	catalog     string // its fingerprint, as the watch read it last; there is one watch at a time
	doubts      doubts
	yielded     atomic.Int64 // until when the watch leaves its connection to lookups

	beside []*Directory // see Beside

	described sync.Mutex
	summary   string // of the statement
}

// Config says where the users are.
type Config struct {
	// DSN returns the address of the database. It is called when the directory
	// is opened, and again for each connection, which uses the user and the
	// password: a rotated password needs no reload.
	DSN func() (string, error) `json:"-"`
	// ListenDSN is the same for the connection that watches for changes, if DSN
	// is the address of a pooler. Default: DSN.
	ListenDSN func() (string, error) `json:"-"`
	// Users names the users table and its columns.
	Users Users
	// Query replaces the users table: see DatabaseOptions.Query.
	Query string
	// AllRivals makes tables with a similar name count even if the operator has named
	// the table without its schema, or a user was found in it: sessions may be of users
	// of several tables. Default: false.
	AllRivals bool
	// Logger returns the logger; it is called for each line, because a directory
	// outlives the configuration that opened it. Default: no log.
	Logger func() *zap.Logger `json:"-"`
}

// Open opens a directory. It does not connect: an error is one of the
// configuration.
func Open(config Config) (*Directory, error) {
	if config.Logger == nil {
		config.Logger = zap.NewNop
	}
	if config.Query != "" && config.Users.Table != "" {
		return nil, errors.New("both a users table and a query are given: remove one of them")
	}
	if config.Users.Table != "" {
		if _, err := splitName(config.Users.Table); err != nil {
			return nil, err
		}
	}
	d := &Directory{config: config, echoEvery: echoEvery}
	d.running, d.stop = context.WithCancel(context.Background())
	if err := d.prepare(); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// prepare parses the addresses, and creates the pools.
func (d *Directory) prepare() error {
	var err error
	if d.lookups, err = newConnector(d.config.DSN); err != nil {
		return err
	}
	d.listen = d.lookups
	if d.config.ListenDSN != nil {
		if d.listen, err = newConnector(d.config.ListenDSN); err != nil {
			return listenError(err)
		}
	}
	if d.pool, err = d.lookups.pool(reading); err != nil {
		return err
	}
	if d.lookups.severalHosts() {
		d.primary, err = d.lookups.pool(confirming)
	}
	return err
}

// listenError makes an error name its option.
func listenError(err error) error {
	if text := err.Error(); !strings.HasPrefix(text, "listen_database") {
		return errors.New("listen_database: " + text)
	}
	return err
}

// Close closes the connections. Lookups in progress fail. Close does not wait for
// a server that hangs.
func (d *Directory) Close() error {
	d.stop()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for _, pool := range []*pgxpool.Pool{d.pool, d.primary} {
			if pool != nil {
				pool.Close()
			}
		}
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
	return nil
}

// String names the database, without a user or a password; and the schema, table or
// query, where the configuration tells them from others in that database.
func (d *Directory) String() string {
	config := d.pool.Config().ConnConfig
	name := "database " + config.Database + " at " + hostOf(&config.Config)
	if schema := cmp.Or(d.lookups.address.schema, d.lookups.address.settings["search_path"]); schema != "" {
		name += ", schema " + schema
	}
	if d.config.Users.Table != "" {
		name += ", table " + d.config.Users.Table
	}
	if d.config.Query != "" {
		name += ", " + d.queryName()
	}
	return name
}

// Describe implements directories.Describer.
func (d *Directory) Describe() directories.Description {
	description := directories.Description{Notified: listenerState(d.state.Load()) == active}
	if d.outdated.Load() {
		description.Advice = adviceOutdated
	}
	for _, pool := range []*pgxpool.Pool{d.pool, d.primary} {
		if pool != nil {
			stat := pool.Stat()
			description.Connections, description.Busy = description.Connections+stat.TotalConns(), description.Busy+stat.AcquiredConns()
		}
	}
	d.described.Lock()
	defer d.described.Unlock()
	description.Users = d.summary
	return description
}

func (d *Directory) log() *zap.Logger { return d.config.Logger() }

// Interface guards
var (
	_ directories.Watcher    = (*Directory)(nil)
	_ directories.Normalizer = (*Directory)(nil)
	_ directories.Explainer  = (*Directory)(nil)
	_ directories.Describer  = (*Directory)(nil)
	_ directories.Diagnoser  = (*Directory)(nil)
)
