package directory

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// find implements place: once more on another connection when the first one
// turns out to be broken, because after a restart of the server all idle ones
// are.
func (p *Postgres) find(ctx context.Context, calls []*call) ([]finding, error) {
	subjects, sure := make([]string, len(calls)), make([]bool, len(calls))
	for i, c := range calls {
		subjects[i], sure[i] = c.subject, c.sure
	}
	found, err := p.findOnce(ctx, subjects, sure)
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
		return nil, classify(err)
	}
	found, err = p.findOnce(ctx, subjects, sure)
	return found, classify(err)
}

// try implements place. It asks the users table for nobody, which shows all the
// same whether it can be asked: whether it is there, and not locked.
func (p *Postgres) try(ctx context.Context) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return classify(err)
	}
	defer conn.Release()
	s, err := p.ready(ctx, conn.Conn(), statementAge)
	if err != nil {
		return classify(err)
	}
	_, err = conn.Exec(ctx, s.sql, []string{})
	return classify(err)
}

// down implements place. What else the server answers, it answers at once.
func (p *Postgres) down(err error) bool {
	class := classOf(err)
	return class == Down || class == Slow || class == Refused || class == Busy
}

// findOnce looks subjects up. Sure tells of which a standby's answer is not
// enough.
func (p *Postgres) findOnce(ctx context.Context, subjects []string, sure []bool) ([]finding, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	found, err := p.findOn(ctx, conn.Conn(), subjects)
	if err != nil {
		return nil, err
	}
	if err := p.confirm(ctx, conn.Conn(), found, sure); err != nil {
		return nil, err
	}
	p.brake.check(ctx, conn.Conn(), found)
	return found, nil
}

// confirm asks once more for those who were not found, on a primary server if
// there is one: a session must not end by what one query saw in the middle of
// a change, or on a standby that lags behind. There it asks for those too of
// whom a standby's answer is not enough.
func (p *Postgres) confirm(ctx context.Context, conn *pgx.Conn, found []finding, sure []bool) error {
	var doubtful []int
	var subjects []string
	absent := false
	for i, f := range found {
		gone := !f.account.Exists && plausible(f.key)
		if gone || sure[i] && f.account.standby && p.primary != nil {
			absent = absent || gone
			doubtful = append(doubtful, i)
			subjects = append(subjects, string(f.key))
		}
	}
	if len(doubtful) == 0 {
		return nil
	}
	var again []finding
	var err error
	if found[doubtful[0]].account.standby {
		again, err = p.confirmOfStandby(ctx, conn, subjects)
	} else {
		again, err = p.findOn(ctx, conn, subjects)
	}
	if err != nil {
		return err
	}
	for i, at := range doubtful {
		found[at] = again[i]
	}
	if absent {
		p.doubt(ctx, conn)
	}
	return nil
}

// confirmOfStandby asks the primary. When that cannot be reached, the standby
// is asked again, for what was true at the last change that it has heard of.
func (p *Postgres) confirmOfStandby(ctx context.Context, conn *pgx.Conn, subjects []string) ([]finding, error) {
	if p.primary != nil {
		found, err := p.findOnPrimary(ctx, subjects)
		if err != nil && broken(err) { // after a restart of the primary
			p.primary.Reset()
			found, err = p.findOnPrimary(ctx, subjects)
		}
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
	s, err := p.ready(ctx, conn, statementAge)
	if err != nil {
		return nil, err
	}
	found, ask, doubtful := p.prepare(s, subjects)
	if doubtful { // a migration may have changed the type of the id
		if s, err = p.ready(ctx, conn, 0); err != nil {
			return nil, err
		}
		found, ask, _ = p.prepare(s, subjects)
	}
	now := p.now()
	asked, watched := p.instant(now), p.watch.follows(conn)
	for i := range found {
		found[i].generation = p.accounts.generation(found[i].key)
	}
	accounts := make([]Account, len(ask))
	if err := s.query(ctx, conn, ask, accounts); err != nil {
		return nil, err
	}
	for i := range found {
		if f := &found[i]; f.possible {
			f.account, accounts = &accounts[0], accounts[1:]
		} else {
			f.account = new(Account)
		}
		a := found[i].account
		a.asked, a.watched = asked, watched
		if !a.standby || p.primary == nil { // else the primary tells, when it matters
			a.AsOf = now
		}
	}
	return found, nil
}

// prepare makes subjects canonical, and tells which of them to ask for. It is
// doubtful when one is no id of the type that the column had.
func (p *Postgres) prepare(s *statement, subjects []string) (found []finding, ask []string, doubtful bool) {
	found, ask = make([]finding, len(subjects)), make([]string, 0, len(subjects))
	for i, subject := range subjects {
		f := finding{key: []byte(subject)}
		canonical, possible := s.id.canonical(f.key)
		switch {
		case !possible:
			doubtful = doubtful || plausible(f.key)
		case string(canonical) == subject:
			ask = append(ask, subject)
		default:
			f.key = canonical
			ask = append(ask, string(canonical))
		}
		f.possible = possible
		found[i] = f
	}
	return found, ask, doubtful
}

// query fills the accounts of subjects in that are possible ids. One that the
// database refuses all the same, because a query of the user's casts it, has no
// row.
func (s *statement) query(ctx context.Context, conn *pgx.Conn, subjects []string, accounts []Account) error {
	if len(subjects) == 0 {
		return nil
	}
	rows := conn.PgConn().ExecParams(ctx, s.sql, [][]byte{textArray(subjects)}, nil, binaryFormat, binaryFormat)
	err := s.scan(conn.TypeMap(), rows, accounts)
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &pg) || !slices.Contains([]string{"22P02", "22003", "22021"}, pg.Code):
		return err
	case len(subjects) == 1:
		accounts[0] = Account{}
		return nil
	}
	half := len(subjects) / 2
	if err := s.query(ctx, conn, subjects[:half], accounts[:half]); err != nil {
		return err
	}
	return s.query(ctx, conn, subjects[half:], accounts[half:])
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
