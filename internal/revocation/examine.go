package revocation

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
)

// ExaminePostgres returns an error if the table in a directory's database cannot be
// read or written, and false if there is none. It changes nothing.
func ExaminePostgres(ctx context.Context, d *postgres.Directory) (found bool, err error) {
	var role string
	err = d.With(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, "select current_user").Scan(&role); err != nil {
			return err
		}
		if err := exists(ctx, conn); err != nil {
			return err
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // the connection is closed next
		if _, err := tx.Exec(ctx, putSQL, []string{}, []string{}, []float64{}, []bool{}, ""); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "delete from "+table+" where false"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, followSQL, "", "", 0.0)
		return err
	})
	if errors.Is(classify(err), errNoStore) {
		return false, nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42501" {
		return true, forbidden(role)
	}
	return true, classify(err)
}
