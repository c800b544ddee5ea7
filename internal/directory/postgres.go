package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/maypok86/otter/v2"
	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
)

// How lookups are bounded.
const (
	defaultTimeout   = 500 * time.Millisecond
	defaultTTL       = 30 * time.Second
	defaultAbsentTTL = 5 * time.Second
	defaultSize      = 100_000
	// lastKnown is how long an account is used while the database cannot be
	// asked.
	lastKnown = 10 * time.Minute
	// queryTimeout bounds a query, which goes on when nobody waits any more.
	queryTimeout = 2 * time.Second
	// maxLookups is how many lookups can be under way.
	maxLookups = 1024
	// breakAfter failures in a row nobody waits for the database any more, and
	// it is tried once every breakFor.
	breakAfter = 3
	breakFor   = time.Second
)

// Postgres is a directory in a Postgres database. It is safe for use by
// several goroutines.
type Postgres struct {
	config    Config
	address   address
	dsn       string
	pool      *pgxpool.Pool
	statement atomic.Pointer[statement]
	finding   sync.Mutex
	unpooled  atomic.Bool // set once a pooler has refused settings of a session
	cache     *otter.Cache[string, Account]
	lookups   singleflight.Group
	slots     chan struct{}
	breaker   *gobreaker.CircuitBreaker[Account]
	journal   journal
	now       func() time.Time
}

// Open opens a directory. It does not connect: only a configuration that
// cannot be right is an error.
func Open(config Config) (*Postgres, error) {
	config.Timeout = cmp.Or(config.Timeout, defaultTimeout)
	config.TTL = cmp.Or(config.TTL, defaultTTL)
	config.AbsentTTL = min(cmp.Or(config.AbsentTTL, defaultAbsentTTL), config.TTL)
	config.Size = cmp.Or(config.Size, defaultSize)
	if config.Query != "" && config.Users.Table != "" {
		return nil, errors.New("both a users table and a query are given: give one of them")
	}
	if config.Users.Table != "" {
		if _, err := splitName(config.Users.Table); err != nil {
			return nil, err
		}
	}
	dsn, err := config.DSN()
	if err != nil {
		return nil, err
	}
	at, err := readAddress(dsn)
	if err != nil {
		return nil, err
	}
	pooled, err := at.poolConfig()
	if err != nil {
		return nil, err
	}
	p := &Postgres{
		config: config, address: at, dsn: dsn, now: time.Now,
		slots: make(chan struct{}, maxLookups),
	}
	p.unpooled.Store(!at.pooled)
	p.journal.logger = config.Logger
	p.cache, err = otter.New(&otter.Options[string, Account]{
		MaximumSize: config.Size, ExpiryCalculator: otter.ExpiryWriting[string, Account](lastKnown),
	})
	if err != nil {
		return nil, fmt.Errorf("making the cache: %w", err)
	}
	p.breaker = gobreaker.NewCircuitBreaker[Account](gobreaker.Settings{
		Timeout:      breakFor,
		ReadyToTrip:  func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= breakAfter },
		IsSuccessful: func(err error) bool { return !down(err) },
	})
	pooled.BeforeConnect = p.prepareConnection
	// A pool connects when it is used.
	if p.pool, err = pgxpool.NewWithConfig(context.Background(), pooled); err != nil {
		return nil, errDSN
	}
	return p, nil
}

// Close ends the directory's connections. Lookups that are under way fail.
func (p *Postgres) Close() {
	p.pool.Close()
	p.cache.StopAllGoroutines()
}

func (p *Postgres) log() *zap.Logger { return p.config.Logger() }

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
	if !p.unpooled.Load() {
		return nil
	}
	for name, value := range sessionSettings {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	return nil
}

// query looks a subject up, once more on another connection when the first one
// turns out to be broken: after a restart of the server all idle ones are.
func (p *Postgres) query(ctx context.Context, subject string) (Account, error) {
	account, err := p.queryOnce(ctx, subject)
	switch {
	case err == nil:
		return account, nil
	case refusesSettings(err):
		p.unpooled.Store(false)
	case broken(err) && classOf(err) == Down:
		p.pool.Reset()
	case classOf(err) == Schema:
		p.statement.Store(nil)
	default:
		return Account{}, err
	}
	return p.queryOnce(ctx, subject)
}

// classOf is the class of an error of the driver or of our own.
func classOf(err error) Class {
	var e *Error
	if errors.As(classify(err), &e) {
		return e.Class
	}
	return Other
}

func (p *Postgres) queryOnce(ctx context.Context, subject string) (Account, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return Account{}, err
	}
	defer conn.Release()
	asked := p.now()
	s, canonical, possible, err := p.prepare(ctx, conn.Conn(), subject)
	switch {
	case err != nil:
		return Account{}, err
	case !possible:
		return p.absent(ctx, conn.Conn(), s, subject, asked), nil
	}
	rows, err := conn.Query(ctx, s.sql, []string{canonical})
	if err != nil {
		return Account{}, err
	}
	accounts, err := s.scan(rows, 1)
	if err != nil {
		return Account{}, err
	}
	if !accounts[0].Exists {
		return p.absent(ctx, conn.Conn(), s, canonical, asked), nil
	}
	p.journal.found.Store(true)
	accounts[0].AsOf = asked
	p.cache.Set(canonical, accounts[0])
	return accounts[0], nil
}

// absent keeps that a subject has no row.
func (p *Postgres) absent(ctx context.Context, conn *pgx.Conn, s *statement, subject string, asked time.Time) Account {
	account := Account{AsOf: asked}
	if plausible(subject) {
		p.cache.Set(subject, account)
	}
	p.doubt(ctx, conn, s)
	return account
}

// prepare returns the statement and the canonical form of a subject. Before a
// subject is held to be impossible the catalogue is asked again: a migration
// may have changed the type of the id.
func (p *Postgres) prepare(ctx context.Context, conn *pgx.Conn, subject string) (*statement, string, bool, error) {
	s, err := p.ready(ctx, conn, statementAge)
	if err != nil {
		return nil, "", false, err
	}
	canonical, possible := s.id.canonical(subject)
	if possible || !plausible(subject) {
		return s, canonical, possible, nil
	}
	if s, err = p.ready(ctx, conn, 0); err != nil {
		return nil, "", false, err
	}
	canonical, possible = s.id.canonical(subject)
	return s, canonical, possible, nil
}

// ready returns the statement, and looks into the catalogue for it when there
// is none or it is older than age.
func (p *Postgres) ready(ctx context.Context, conn *pgx.Conn, age time.Duration) (*statement, error) {
	asked := p.now()
	if s := p.statement.Load(); s != nil && asked.Sub(s.made) < age {
		return s, nil
	}
	p.finding.Lock()
	defer p.finding.Unlock()
	if s := p.statement.Load(); s != nil && asked.Sub(s.made) < age { // another one has looked meanwhile
		return s, nil
	}
	s, err := p.discover(ctx, conn)
	if err != nil {
		p.statement.Store(nil)
		return nil, err
	}
	s.made = p.now()
	p.statement.Store(s)
	p.journal.ready(s)
	return s, nil
}

// doubt raises the alarm when no subject was ever found in a table that has
// rows: then the configuration is wrong, or everybody is gone.
func (p *Postgres) doubt(ctx context.Context, conn *pgx.Conn, s *statement) {
	if !p.journal.suspicious(p.now()) || s.table == "" {
		return
	}
	var rows bool
	if err := conn.QueryRow(ctx, "select exists (select from "+s.table+")").Scan(&rows); err != nil || !rows {
		return
	}
	p.log().Error("no subject of the sessions seen so far has a row in the users table, which has rows: either all of them are stale, or `subject` or `database` is wrong; `mode observe` ends no session while you look, and `subject email` with `users { id email }` finds users by e-mail",
		zap.String("table", s.table), zap.Int64("subjects", p.journal.absent.Load()))
}
