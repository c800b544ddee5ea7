package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed schema.sql
var schema string

// people are the users that each seed inserts, with new ids.
var people = []struct{ name, email string }{
	{"Ada Lovelace", "ada@example.com"},
	{"Grace Hopper", "grace@example.com"},
}

// user is a row of the users table.
type user struct{ ID, Name, Email string }

// seed drops all tables and fills new ones, as `prisma migrate reset` and a
// seed script do: the same people get other ids.
func seed(ctx context.Context, pool *pgxpool.Pool) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // nothing to roll back after a commit
	if _, err := tx.Exec(ctx, schema); err != nil {
		return err
	}
	for _, p := range people {
		id := "c" + strings.ToLower(rand.Text())
		if _, err := tx.Exec(ctx, `INSERT INTO "User" (id, name, email) VALUES ($1, $2, $3)`, id, p.name, p.email); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// users lists the users table.
func users(ctx context.Context, pool *pgxpool.Pool) ([]user, error) {
	rows, err := pool.Query(ctx, `SELECT id, name, email FROM "User" ORDER BY name`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[user])
}

// violatesForeignKey reports whether an insert failed because the row that it
// references does not exist.
func violatesForeignKey(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23503"
}
