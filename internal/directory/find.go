package directory

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sony/gobreaker/v2"
)

// finding is what was found of a subject.
type finding struct {
	key        []byte // the canonical subject
	generation uint64
	account    *Account
}

// keep keeps a finding in the cache. It returns false when the account was
// dropped meanwhile, so that it has to be looked up again.
func (p *Postgres) keep(f finding) bool {
	if f.account.Exists {
		p.journal.found.Store(true)
	} else if !plausible(f.key) {
		return true
	}
	return p.accounts.keep(f.key, f.generation, p.now(), f.account)
}

// find looks subjects up, once more on another connection when the first one
// turns out to be broken: after a restart of the server all idle ones are.
func (p *Postgres) find(ctx context.Context, subjects []string) ([]finding, error) {
	found, err := p.findOnce(ctx, subjects)
	switch {
	case err == nil:
		return found, nil
	case refusesSettings(err):
		p.unpooled.Store(false)
	case broken(err) && classOf(err) == Down:
		p.pool.Reset()
	case classOf(err) == Schema:
		p.statement.Store(nil)
	default:
		return nil, err
	}
	return p.findOnce(ctx, subjects)
}

func (p *Postgres) findOnce(ctx context.Context, subjects []string) ([]finding, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	found, err := p.findOn(ctx, conn.Conn(), subjects)
	if err != nil {
		return nil, err
	}
	if err := p.confirm(ctx, conn.Conn(), found); err != nil {
		return nil, err
	}
	p.brake.check(ctx, conn.Conn(), found)
	return found, nil
}

// confirm asks once more for those who were not found, on a primary server if
// there is one: a session must not end by what one query saw in the middle of
// a change, or on a standby that lags behind.
func (p *Postgres) confirm(ctx context.Context, conn *pgx.Conn, found []finding) error {
	var absent []int
	var subjects []string
	for i, f := range found {
		if !f.account.Exists && plausible(f.key) {
			absent = append(absent, i)
			subjects = append(subjects, string(f.key))
		}
	}
	if len(absent) == 0 {
		return nil
	}
	var again []finding
	var err error
	if found[absent[0]].account.standby {
		again, err = p.confirmOfStandby(ctx, conn, subjects)
	} else {
		again, err = p.findOn(ctx, conn, subjects)
	}
	if err != nil {
		return err
	}
	for i, at := range absent {
		found[at] = again[i]
	}
	p.doubt(ctx, conn)
	return nil
}

// confirmOfStandby asks the primary. When that cannot be reached, the standby
// is asked again, for what was true at the last change that it has heard of.
func (p *Postgres) confirmOfStandby(ctx context.Context, conn *pgx.Conn, subjects []string) ([]finding, error) {
	if p.primary != nil {
		found, err := p.findOnPrimary(ctx, subjects)
		if err == nil {
			return found, nil
		}
		p.journal.failed(classify(err))
	}
	// Read first: the change it tells of is part of what the next query sees.
	var replayed *time.Time
	if err := conn.QueryRow(ctx, "select pg_last_xact_replay_timestamp()").Scan(&replayed); err != nil {
		return nil, err
	}
	found, err := p.findOn(ctx, conn, subjects)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if f.account.standby {
			f.account.AsOf = time.Time{}
			if replayed != nil {
				f.account.AsOf = *replayed
			}
		}
	}
	return found, nil
}

func (p *Postgres) findOnPrimary(ctx context.Context, subjects []string) ([]finding, error) {
	conn, err := p.primary.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	return p.findOn(ctx, conn.Conn(), subjects)
}

// findOn looks subjects up on a connection.
func (p *Postgres) findOn(ctx context.Context, conn *pgx.Conn, subjects []string) ([]finding, error) {
	s, err := p.readyFor(ctx, conn, subjects)
	if err != nil {
		return nil, err
	}
	now := p.now()
	asked, watched := p.instant(now), p.watch.follows(conn)
	found := make([]finding, len(subjects))
	var ask []string
	var at []int
	for i, subject := range subjects {
		key, possible := s.id.canonical([]byte(subject))
		if !possible {
			key = []byte(subject)
		}
		found[i] = finding{key, p.accounts.generation(key), &Account{AsOf: now}}
		if possible {
			ask = append(ask, string(key))
			at = append(at, i)
		}
	}
	answered, err := s.query(ctx, conn, ask)
	if err != nil {
		return nil, err
	}
	for i, account := range answered {
		account.AsOf = now
		found[at[i]].account = account
	}
	for _, f := range found {
		f.account.asked, f.account.watched = asked, watched
	}
	return found, nil
}

// query asks for subjects that are possible ids. One that the database refuses
// all the same, because a query of the user's casts it, has no row.
func (s *statement) query(ctx context.Context, conn *pgx.Conn, subjects []string) ([]*Account, error) {
	if len(subjects) == 0 {
		return nil, nil
	}
	rows, err := conn.Query(ctx, s.sql, subjects)
	if err != nil {
		return nil, err
	}
	accounts, err := s.scan(rows, len(subjects))
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return accounts, nil
	case !errors.As(err, &pg) || !slices.Contains([]string{"22P02", "22003", "22021"}, pg.Code):
		return nil, err
	case len(subjects) == 1:
		return []*Account{{}}, nil
	}
	half := len(subjects) / 2
	first, err := s.query(ctx, conn, subjects[:half])
	if err != nil {
		return nil, err
	}
	second, err := s.query(ctx, conn, subjects[half:])
	return append(first, second...), err
}

// readyFor returns the statement. Before a subject is held to be impossible
// the catalogue is asked again: a migration may have changed the type of the
// id.
func (p *Postgres) readyFor(ctx context.Context, conn *pgx.Conn, subjects []string) (*statement, error) {
	s, err := p.ready(ctx, conn, statementAge)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(subjects, func(subject string) bool {
		_, possible := s.id.canonical([]byte(subject))
		return !possible && plausible([]byte(subject))
	}) {
		return p.ready(ctx, conn, 0)
	}
	return s, nil
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

// classOf is the class of an error of the driver or of our own.
func classOf(err error) Class {
	var e *Error
	if errors.As(classify(err), &e) {
		return e.Class
	}
	return Other
}

// brokenOr is errBroken for an error of the breaker's own.
func brokenOr(err error) error {
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return errBroken
	}
	return err
}

// newPrimary returns the pool that finds the primary among several hosts; nil
// when there is just one.
func newPrimary(config *pgxpool.Config) (*pgxpool.Pool, error) {
	first := config.ConnConfig
	several := slices.ContainsFunc(first.Fallbacks, func(other *pgconn.FallbackConfig) bool {
		return other.Host != first.Host || other.Port != first.Port
	})
	if !several {
		return nil, nil //nolint:nilnil // none is needed
	}
	config = config.Copy()
	config.MaxConns = 1
	config.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	return pgxpool.NewWithConfig(context.Background(), config)
}
