package postgres

import "context"

// Table returns the users table, quoted for SQL, and the name of its id column;
// empty for a query of the user's.
func (d *Directory) Table(ctx context.Context) (table, id string, err error) {
	conn, err := d.lookups.acquire(ctx, d.pool)
	if err != nil {
		return "", "", classify(err)
	}
	defer conn.Release()
	s, err := d.ready(ctx, conn.Conn(), statementAge)
	if err != nil {
		return "", "", classify(err)
	}
	return s.table, s.users.ID, nil
}
