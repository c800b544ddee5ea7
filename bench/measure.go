package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// warmUp is how many seconds a target is asked for before it is measured.
const warmUp = 1

// sample is what one measurement of a target found.
type sample struct {
	requests int
	rate     float64       // requests a second
	cpu      time.Duration // of Caddy, a request
	p50, p99 time.Duration
}

// measure measures every target once a round, in an order that rotates.
func (b *bed) measure(ctx context.Context) (report, error) {
	rounds := make([][]sample, b.options.Rounds)
	checked := 0
	for round := range rounds {
		fmt.Printf("Round %d of %d …\n", round+1, len(rounds))
		rounds[round] = make([]sample, len(b.targets))
		for i := range b.targets {
			n := (round + i) % len(b.targets)
			t := b.targets[n]
			warm, err := b.load(ctx, t, warmUp)
			if err != nil {
				return report{}, fmt.Errorf("%s: %w", t.name, err)
			}
			s, err := b.sample(ctx, t)
			if err != nil {
				return report{}, fmt.Errorf("%s: %w", t.name, err)
			}
			rounds[round][n] = s
			if t.checks {
				checked += warm.Requests + s.requests
			}
		}
	}
	lookups, err := countLookups(b.postgres.Log(), people)
	if err != nil {
		return report{}, err
	}
	names := make([]string, len(b.targets))
	for i, t := range b.targets {
		names[i] = t.name
	}
	v, err := b.versions(ctx)
	return report{Versions: v, Table: table(names, rounds), Checked: checked, Lookups: lookups, People: people}, err
}

// sample measures a target.
func (b *bed) sample(ctx context.Context, t target) (sample, error) {
	before, err := t.caddy.cpu()
	if err != nil {
		return sample{}, err
	}
	l, err := b.load(ctx, t, b.options.Seconds)
	if err != nil {
		return sample{}, err
	}
	after, err := t.caddy.cpu()
	if err != nil {
		return sample{}, err
	}
	return sample{
		requests: l.Requests,
		rate:     float64(l.Requests) / (l.Duration / 1e6),
		cpu:      (after - before) / time.Duration(l.Requests),
		p50:      time.Duration(l.P50) * time.Microsecond,
		p99:      time.Duration(l.P99) * time.Microsecond,
	}, nil
}

func (b *bed) load(ctx context.Context, t target, seconds int) (load, error) {
	return runLoad(ctx, filepath.Join(b.dir, "load.lua"), filepath.Join(b.dir, "sessions"), t.url, b.options.Connections, seconds)
}
