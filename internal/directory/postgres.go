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
	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"
)

// How lookups are bounded.
const (
	defaultTimeout   = 500 * time.Millisecond
	defaultTTL       = 30 * time.Second
	defaultAbsentTTL = 5 * time.Second
	defaultSize      = 100_000
	defaultPoll      = 500 * time.Millisecond
	// lastKnown is how long an account is used while the database cannot be
	// asked.
	lastKnown = instant(10 * time.Minute)
	// queryTimeout bounds a query, which goes on when nobody waits any more.
	queryTimeout = 2 * time.Second
)

// Postgres is a directory in a Postgres database. It is safe for use by
// several goroutines.
type Postgres struct {
	config    Config
	address   address
	dsn       string
	pool      *pgxpool.Pool
	primary   *pgxpool.Pool // nil when there is one host
	statement atomic.Pointer[statement]
	finding   sync.Mutex
	unpooled  atomic.Bool // until a pooler has refused settings of a session
	accounts  *accounts
	batch     batch
	breaker   *gobreaker.CircuitBreaker[[]finding]
	probing   atomic.Bool
	brake     brake
	watch     *watch // nil when the database is not polled
	watching  sync.Once
	journal   journal
	now       func() time.Time
	opened    time.Time
	running   context.Context // until Close
	stop      context.CancelFunc
	closing   sync.Mutex
	ended     sync.WaitGroup // what runs in the background
}

// Open opens a directory. It does not connect: only a configuration that
// cannot be right is an error.
func Open(config Config) (*Postgres, error) {
	config.Timeout = cmp.Or(config.Timeout, defaultTimeout)
	config.TTL = cmp.Or(config.TTL, defaultTTL)
	config.AbsentTTL = min(cmp.Or(config.AbsentTTL, defaultAbsentTTL), config.TTL)
	config.Size = cmp.Or(config.Size, defaultSize)
	config.Poll = cmp.Or(config.Poll, defaultPoll)
	if config.Query != "" && config.Users.Table != "" {
		return nil, errors.New("both a users table and a query are given: give one of them")
	}
	if config.Users.Table != "" {
		if _, err := splitName(config.Users.Table); err != nil {
			return nil, err
		}
	}
	p := &Postgres{config: config, now: time.Now, opened: time.Now()}
	p.running, p.stop = context.WithCancel(context.Background())
	p.journal.logger, p.journal.happened = config.Logger, p.happened
	p.accounts = newAccounts(config.Size, max(config.TTL, time.Duration(lastKnown))+time.Minute)
	p.brake = brake{p: p, share: config.BrakeShare, window: instant(config.BrakeWindow)}
	p.breaker = p.newBreaker()
	if err := p.openPools(); err != nil {
		p.Close()
		return nil, err
	}
	p.batch = batch{
		now:     func() instant { return p.instant(p.now()) },
		serve:   p.serve,
		workers: int(p.pool.Config().MaxConns),
		open:    make(map[string]*call),
	}
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

// Flush forgets all accounts, so that each is looked up again, and returns how
// many there were.
func (p *Postgres) Flush() int64 { return p.accounts.flush(p.instant(p.now())) }

// Close ends the directory's connections. Lookups that are under way fail.
func (p *Postgres) Close() {
	p.closing.Lock()
	p.stop()
	p.closing.Unlock()
	for _, pool := range []*pgxpool.Pool{p.pool, p.primary} {
		if pool != nil {
			pool.Close()
		}
	}
	p.ended.Wait()
}

// startWatch starts the watch. That waits for the first lookup, so that a
// configuration that is only checked does not connect.
func (p *Postgres) startWatch() {
	if p.watch != nil {
		p.background(p.watch.run)
	}
}

func (p *Postgres) log() *zap.Logger { return p.config.Logger() }

// instant is a time on the directory's own clock.
func (p *Postgres) instant(t time.Time) instant { return instant(t.Sub(p.opened)) }

// prepareConnection takes up a password that was changed, and tells the
// session what it may do where nothing pools it.
func (p *Postgres) prepareConnection(_ context.Context, config *pgx.ConnConfig) error {
	if dsn, err := p.config.DSN(); err == nil && dsn != p.dsn {
		if at, err := readAddress(dsn); err == nil {
			if changed, err := at.poolConfig(); err == nil {
				config.User, config.Password = changed.ConnConfig.User, changed.ConnConfig.Password
			}
		}
	}
	if p.unpooled.Load() {
		settle(config)
	}
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

// background runs a function beside the requests, unless the directory is
// closed.
func (p *Postgres) background(f func()) {
	p.closing.Lock()
	defer p.closing.Unlock()
	if p.running.Err() == nil {
		p.ended.Go(f)
	}
}

// String names the database, without a user or a password.
func (p *Postgres) String() string {
	config := p.pool.Config().ConnConfig
	return "database " + config.Database + " at " + place(&config.Config)
}
