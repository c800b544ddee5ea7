package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
)

// writes are the writes of an app to its users table; $1 counts up.
var writes = []struct {
	name, sql string // %s is the table
	times     int
}{
	{"`INSERT` a user", `insert into %s (id, email) select 'new' || $1::int, 'x'`, 500},
	{"`UPDATE` of a column that no verdict reads", `update %s set email = email || 'x' where id = 'u' || $1::int`, 500},
	{"`UPDATE` that bans a user", `update %s set disabled = true where id = 'u' || $1::int`, 500},
	{"`DELETE` of a user", `delete from %s where id = 'u' || $1::int`, 500},
	{"`DELETE` of 1,000 users at once", `delete from %s where id in (select 'u' || 1000 * $1::int + g from generate_series(1, 1000) g)`, 10},
	{"`DELETE` of 10,000 users at once", `delete from %s where id in (select 'u' || 10000 * (1 + $1::int) + g from generate_series(1, 10000) g)`, 3},
}

// measureWriters measures what the triggers cost writers of the users table, and
// returns a table in Markdown. Each statement is its own transaction, in turns on
// a table without triggers and on one with them.
func (b *bed) measureWriters(ctx context.Context) (string, error) {
	dsn := b.postgres.DSN("postgres")
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	const drop = `drop schema if exists writers cascade`
	tables := []string{"writers.plain", "writers.told"}
	_, err = conn.Exec(ctx, drop+`; create schema writers;
		create table writers.plain (id text primary key, email text, disabled boolean);
		insert into writers.plain select 'u' || g, 'someone' || g || '@example.com', false from generate_series(0, 60000) g;
		create table writers.told (like writers.plain including all); insert into writers.told select * from writers.plain;
		analyze writers.plain, writers.told`)
	if err != nil {
		return "", err
	}
	d, err := postgres.Open(postgres.Config{
		DSN: func() (string, error) { return dsn, nil }, Users: postgres.Users{Table: tables[1]},
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = d.Close() }()
	sql, err := d.InstallSQL(ctx)
	if err != nil {
		return "", err
	}
	if err := d.Run(ctx, sql); err != nil {
		return "", err
	}
	// A session listens, as the module does.
	if _, err := conn.Exec(ctx, "listen stale_session"); err != nil {
		return "", err
	}
	var text strings.Builder
	text.WriteString("| statement | without triggers, µs | with them, µs | more, µs |\n|---|---|---|---|\n")
	for _, w := range writes {
		took := make([][]float64, len(tables))
		for n := range w.times {
			for i := range tables {
				i = (i + n) % len(tables)
				began := time.Now()
				if _, err := conn.Exec(ctx, fmt.Sprintf(w.sql, tables[i]), n); err != nil {
					return "", err
				}
				took[i] = append(took[i], in(time.Microsecond, time.Since(began)))
			}
		}
		more := make([]float64, w.times)
		for n := range more {
			more[n] = took[1][n] - took[0][n]
		}
		low, high := interval(slices.Clone(more))
		fmt.Fprintf(&text, "| %s | %.0f | %.0f | %.0f [%.0f, %.0f] |\n", w.name, median(took[0]), median(took[1]), median(more), low, high)
	}
	_, err = conn.Exec(ctx, drop+"; "+postgres.UninstallSQL)
	return text.String(), err
}
