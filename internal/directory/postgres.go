package directory

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

const (
	defaultPoll = 500 * time.Millisecond
	// closeTimeout is how long the end waits for a server.
	closeTimeout = time.Second
)

// Postgres is a directory in a Postgres database. It is safe for use by
// several goroutines.
type Postgres struct {
	backend

	address   address
	dsn       string
	pool      *pgxpool.Pool
	primary   *pgxpool.Pool // nil when there is one host
	statement atomic.Pointer[statement]
	finding   sync.Mutex
	unpooled  atomic.Bool // until a pooler has refused settings of a session
	brake     brake
	watch     *watch // nil when the database is not polled
	followers followers
}

// Open opens a directory. It does not connect: only a configuration that
// cannot be right is an error.
func Open(config Config) (*Postgres, error) {
	config.Poll = cmp.Or(config.Poll, defaultPoll)
	if config.Query != "" && config.Users.Table != "" {
		return nil, errors.New("both a users table and a query are given: give one of them")
	}
	if config.Users.Table != "" {
		if _, err := splitName(config.Users.Table); err != nil {
			return nil, err
		}
	}
	p := new(Postgres)
	p.use(p, config)
	p.brake = brake{p: p, share: config.BrakeShare, window: instant(config.BrakeWindow)}
	if err := p.openPools(); err != nil {
		p.Close()
		return nil, err
	}
	p.open(int(p.pool.Config().MaxConns))
	return p, nil
}

// openPools reads the address, and makes what connects to it when it is used.
func (p *Postgres) openPools() error {
	var err error
	if p.dsn, err = p.config.DSN(); err != nil {
		return err
	}
	if p.address, err = readAddress(p.dsn); err != nil {
		return err
	}
	pooled, err := p.address.poolConfig()
	if err != nil {
		return err
	}
	p.unpooled.Store(!p.address.pooled)
	pooled.BeforeConnect = p.prepareConnection
	if p.pool, err = pgxpool.NewWithConfig(context.Background(), pooled); err != nil {
		return errDSN
	}
	if p.primary, err = newPrimary(pooled); err != nil {
		return errDSN
	}
	if p.config.Poll > 0 {
		p.watch, err = newWatch(p)
	}
	return err
}

// Close ends the directory's connections. Lookups that are under way fail. A
// server that hangs is not waited for: its connections are given up beside.
func (p *Postgres) Close() {
	p.end()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for _, pool := range []*pgxpool.Pool{p.pool, p.primary} {
			if pool != nil {
				pool.Close()
			}
		}
		p.ended.Wait()
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
	p.accounts.cache.Close() // Caddy's proxies hold on to the requests they had last
}

// startWatch implements place. That waits for the first lookup, so that a
// configuration that is only checked does not connect.
func (p *Postgres) startWatch() {
	if p.watch != nil {
		p.background(p.watch.run)
	}
}

func (p *Postgres) log() *zap.Logger { return p.config.Logger() }

// prepareConnection takes up a password that was changed, and tells the
// session what it may do where nothing pools it.
func (p *Postgres) prepareConnection(_ context.Context, config *pgx.ConnConfig) error {
	_ = p.takeUpPassword(config) // the one from before may do: the server tells
	if p.unpooled.Load() {
		settle(config)
	}
	return nil
}

// takeUpPassword takes up a password that was changed.
func (p *Postgres) takeUpPassword(config *pgx.ConnConfig) error {
	dsn, err := p.config.DSN()
	if err != nil || dsn == p.dsn {
		return err
	}
	at, err := readAddress(dsn)
	if err != nil {
		return err
	}
	changed, err := at.poolConfig()
	if err != nil {
		return err
	}
	config.User, config.Password = changed.ConnConfig.User, changed.ConnConfig.Password
	return nil
}

// settle gives a connection the settings of its session.
func settle(config *pgx.ConnConfig) {
	for name, value := range sessionSettings {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
}

// doubt raises the alarm when no subject was ever found in a table that has
// rows: then the configuration is wrong, or everybody is gone.
func (p *Postgres) doubt(ctx context.Context, conn *pgx.Conn) {
	s := p.statement.Load()
	if !p.journal.suspicious(p.now()) || s == nil || s.table == "" {
		return
	}
	var rows bool
	if err := conn.QueryRow(ctx, "select exists (select from "+s.table+")").Scan(&rows); err != nil || !rows {
		return
	}
	p.log().Error("no subject of the sessions seen so far has a row in the users table, which has rows: either all of them are stale, or `subject` or `database` is wrong; `mode observe` ends no session while you look, and `subject email` with `users { id email }` finds users by e-mail",
		zap.String("table", s.table), zap.Int64("subjects", p.journal.absent.Load()))
}

// String names the database, without a user or a password.
func (p *Postgres) String() string {
	config := p.pool.Config().ConnConfig
	return "database " + config.Database + " at " + hostOf(&config.Config)
}
