package directory

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Table returns the users table, quoted for SQL, and the name of its id column;
// empty for a query of the user's.
func (p *Postgres) Table(ctx context.Context) (table, id string, err error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return "", "", classify(err)
	}
	defer conn.Release()
	s, err := p.ready(ctx, conn.Conn(), statementAge)
	if err != nil {
		return "", "", classify(err)
	}
	return s.table, s.users.ID, nil
}

// WriterConfig returns the configuration of a connection with the role's own
// settings: it may write.
func (p *Postgres) WriterConfig() (*pgx.ConnConfig, error) {
	pooled, err := p.address.poolConfig()
	if err != nil {
		return nil, err
	}
	return pooled.ConnConfig, nil
}
