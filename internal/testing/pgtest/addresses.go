package pgtest

import (
	"context"
	"fmt"
)

// Addresses returns the address of a database in four ways: as a URL, as keywords and
// values with the name of the host, through PgBouncer, and through the socket. The
// last two are like those of another server to whoever compares texts.
func (s *Server) Addresses(ctx context.Context, database string) (addresses [4]string, pooler *Pooler, err error) {
	if pooler, err = s.Pooler(ctx, database); err != nil {
		return addresses, nil, err
	}
	return [4]string{
		s.DSN(database),
		fmt.Sprintf("host=localhost port=%d user=postgres dbname=%s sslmode=disable", s.port, database),
		pooler.DSN(),
		fmt.Sprintf("postgres:///%s?host=%s&port=%d&user=postgres", database, s.dir, s.port),
	}, pooler, nil
}
