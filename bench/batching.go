package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
)

// away is the latency of a remote database, in each direction.
const away = time.Millisecond

// asked is the result of one measurement of lookups, without HTTP.
type asked struct {
	rate     float64 // lookups a second
	p99      time.Duration
	postgres time.Duration // CPU, a lookup
}

// measureBatching measures lookups of users that are not cached: one prepared
// query each, and batched by the directory, with a database on the same machine
// and with a remote one. It returns a table in Markdown.
func (b *bed) measureBatching(ctx context.Context) (string, error) {
	var text strings.Builder
	text.WriteString("| lookups | a second | p99 ms | Postgres µs | a second ÷ one each |\n|---|---|---|---|---|\n")
	for _, distance := range []time.Duration{0, away} {
		address, stop, err := relay(ctx, b.postgres.Address(), distance)
		if err != nil {
			return "", err
		}
		err = b.compareBatching(ctx, &text, address, 2*distance)
		stop()
		if err != nil {
			return "", err
		}
	}
	return text.String(), nil
}

// compareBatching measures with one latency and writes two rows of the table.
func (b *bed) compareBatching(ctx context.Context, text *strings.Builder, address string, trip time.Duration) error {
	dsn := "postgres://postgres@" + address + "/postgres?sslmode=disable"
	rounds := make([][2]asked, b.options.Rounds)
	for i := range rounds {
		var err error
		if rounds[i][0], err = b.askEach(ctx, dsn); err != nil {
			return err
		}
		if rounds[i][1], err = b.askJoined(ctx, dsn); err != nil {
			return err
		}
	}
	for n, name := range []string{"one prepared query each", "joined by the directory"} {
		over := func(value func(mine, each asked) float64) []float64 {
			values := make([]float64, len(rounds))
			for i, round := range rounds {
				values[i] = value(round[n], round[0])
			}
			return values
		}
		fmt.Fprintf(text, "| %s, a round trip of %s more | %.0f | %.2f | %.1f |", name, trip,
			median(over(func(a, _ asked) float64 { return a.rate })),
			median(over(func(a, _ asked) float64 { return in(time.Millisecond, a.p99) })),
			median(over(func(a, _ asked) float64 { return in(time.Microsecond, a.postgres) })))
		if n == 1 {
			ratios := over(func(a, each asked) float64 { return a.rate / each.rate })
			low, high := interval(ratios)
			fmt.Fprintf(text, " %.2f [%.2f, %.2f] |\n", median(ratios), low, high)
		} else {
			text.WriteString(" |\n")
		}
	}
	return nil
}

// askEach looks up each user with one query, on 4 connections.
func (b *bed) askEach(ctx context.Context, dsn string) (asked, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return asked{}, err
	}
	config.MaxConns = 4
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return asked{}, err
	}
	defer pool.Close()
	return b.askFor(ctx, func(subject string) error {
		var one int
		return pool.QueryRow(ctx, `select 1 from "User" where id = $1`, subject).Scan(&one)
	})
}

// askJoined looks up users in a directory, as the module does.
func (b *bed) askJoined(ctx context.Context, dsn string) (asked, error) {
	users, err := postgres.Open(postgres.Config{DSN: func() (string, error) { return dsn, nil }})
	if err != nil {
		return asked{}, err
	}
	d := accounts.Open(users, accounts.Config{})
	defer func() { _ = d.Close() }()
	return b.askFor(ctx, func(subject string) error {
		var account accounts.Account
		_, err := d.Lookup(ctx, accounts.Query{Query: directories.Query{Subject: []byte(subject)}, Now: time.Now()}, &account)
		if err == nil && !account.Exists {
			err = errors.New(subject + " was not found")
		}
		return err
	})
}

// askFor looks up users, many at a time.
func (b *bed) askFor(ctx context.Context, look func(subject string) error) (asked, error) {
	if err := look(subject(0)); err != nil { // connects
		return asked{}, err
	}
	before, err := cpuTime(b.postmaster)
	if err != nil {
		return asked{}, err
	}
	var next atomic.Int64
	var mu sync.Mutex
	var all []time.Duration
	work, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for range coldConnections {
		work.Go(func() error {
			var mine []time.Duration
			for time.Since(began) < time.Duration(b.options.Seconds)*time.Second && ctx.Err() == nil {
				from := time.Now()
				if err := look(subject(int(next.Add(1) % people))); err != nil {
					return err
				}
				mine = append(mine, time.Since(from))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return asked{}, err
	}
	took := time.Since(began)
	after, err := cpuTime(b.postmaster)
	slices.Sort(all)
	return asked{
		rate:     float64(len(all)) / took.Seconds(),
		p99:      all[len(all)*99/100],
		postgres: (after - before) / time.Duration(len(all)),
	}, err
}

// relay forwards connections to an address and adds latency.
func relay(ctx context.Context, to string, distance time.Duration) (address string, stop func(), err error) {
	if distance == 0 {
		return to, func() {}, nil
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return
			}
			there, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
			if err != nil {
				_ = here.Close() // the client notices
				continue
			}
			served.Go(func() { carry(there, here, distance) })
			served.Go(func() { carry(here, there, distance) })
		}
	})
	return listener.Addr().String(), func() { _ = listener.Close(); served.Wait() }, nil
}

// carry copies from one connection to another with a delay, until one of them is
// closed.
func carry(to, from net.Conn, distance time.Duration) {
	type part struct {
		bytes []byte
		due   time.Time
	}
	parts := make(chan part, 1024)
	go func() {
		defer close(parts)
		for {
			buffer := make([]byte, 32<<10)
			n, err := from.Read(buffer)
			if n > 0 {
				parts <- part{buffer[:n], time.Now().Add(distance)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range parts {
		time.Sleep(time.Until(p.due)) // the latency
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
	for range parts {
		continue // nobody reads the rest
	}
}
