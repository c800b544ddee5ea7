package main

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// warmUp is for how many seconds a target gets requests before its measurement.
const warmUp = 1

// sample is the result of one measurement of a target.
type sample struct {
	requests      int
	rate          float64       // requests a second
	cpu, postgres time.Duration // of the target's own processes and of Postgres, a request
	p50, p99      time.Duration
	resident      int     // memory of the target's own processes, in bytes
	collections   float64 // garbage collections a request
}

// result is the result of a group.
type result struct {
	Rounds, Seconds int
	Tables          []string
	Additions       []string // what others add, compared with what the module adds
	PerSession      int      // bytes of the heap for each session, as far as that is measured
	Lookups         lookups  // while targets were measured that know all of their sessions
	Hits            int      // requests to these
}

// String implements fmt.Stringer, for the terminal.
func (r result) String() string {
	text := ""
	for _, table := range r.Tables {
		text += table + "\n"
	}
	for _, addition := range r.Additions {
		text += addition + "\n"
	}
	if r.Hits > 0 {
		text += fmt.Sprintf("%d requests led to %d lookups of %d subjects.\n", r.Hits, r.Lookups.Statements, r.Lookups.Subjects)
	}
	return text
}

// measure measures every target of a group once a round, in a rotating order.
func (b *bed) measure(ctx context.Context, g group) (result, error) {
	earlier := len(b.processes)
	defer func() { b.stop(earlier) }()
	_, place, err := b.lookupsSince(0)
	if err != nil {
		return result{}, err
	}
	found := result{Rounds: b.options.Rounds, Seconds: b.options.Seconds}
	var targets []target
	rounds := make([][]sample, b.options.Rounds)
	for round := range rounds {
		if round == 0 || g.fresh {
			b.stop(earlier)
			if targets, err = g.start(b, ctx); err != nil {
				return result{}, err
			}
			if err := b.prove(ctx, targets); err != nil {
				return result{}, err
			}
			var before lookups
			if before, place, err = b.lookupsSince(place); err != nil {
				return result{}, err
			}
			if err := before.warmed(targets); err != nil {
				return result{}, err
			}
		}
		fmt.Printf("Round %d of %d …\n", round+1, len(rounds))
		rounds[round] = make([]sample, len(targets))
		for i := range targets {
			n := (round + i) % len(targets)
			warm, s, err := b.sample(ctx, g, targets[n])
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", targets[n].name, err)
			}
			rounds[round][n] = s
			if targets[n].hits {
				found.Hits += warm.Requests + s.requests
			}
		}
	}
	if found.Lookups, _, err = b.lookupsSince(place); err != nil {
		return result{}, err
	}
	if err := found.Lookups.hits(found.Hits); err != nil {
		return result{}, err
	}
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = t.name
	}
	for _, shown := range g.tables {
		found.Tables = append(found.Tables, table(names, rounds, shown))
	}
	for _, other := range g.others {
		found.Additions = append(found.Additions, addition(names, rounds, other, g.ours))
	}
	found.PerSession = b.perSession
	return found, nil
}

// sample warms a target up and measures it.
func (b *bed) sample(ctx context.Context, g group, t target) (warm load, s sample, err error) {
	random := !g.fresh
	connections := cmp.Or(g.connections, b.options.Connections)
	first, rest := t.sessions, t.sessions
	if g.fresh { // the warm-up has other sessions
		first, rest = t.sessions.part(0, perSecond*warmUp), t.sessions.part(perSecond*warmUp, t.sessions.count-perSecond*warmUp)
	}
	if warm, err = b.load(ctx, t.url, first, random, connections, warmUp); err != nil {
		return warm, s, err
	}
	begin, err := t.heap(ctx)
	if err != nil {
		return warm, s, err
	}
	before, err := b.used(t)
	if err != nil {
		return warm, s, err
	}
	l, err := b.load(ctx, t.url, rest, random, connections, b.options.Seconds)
	if err != nil {
		return warm, s, err
	}
	after, err := b.used(t)
	if err != nil {
		return warm, s, err
	}
	end, err := t.heap(ctx)
	if err != nil {
		return warm, s, err
	}
	s = sample{
		requests: l.Requests,
		rate:     float64(l.Requests) / (l.Duration / 1e6),
		cpu:      (after.own - before.own) / time.Duration(l.Requests),
		postgres: (after.postgres - before.postgres) / time.Duration(l.Requests),
		p50:      time.Duration(l.P50) * time.Microsecond,
		p99:      time.Duration(l.P99) * time.Microsecond,
		resident: after.resident,
		// Reading the count starts a collection.
		collections: float64(max(0, end.Collections-begin.Collections-1)) / float64(l.Requests),
	}
	return warm, s, nil
}

// usage is what processes have used.
type usage struct {
	own, postgres time.Duration
	resident      int
}

// used returns what the processes of a target and Postgres have used so far.
func (b *bed) used(t target) (u usage, err error) {
	pids := make([]int, len(t.processes))
	for i, p := range t.processes {
		pids[i] = p.Process.Pid
		resident, err := residentMemory(pids[i])
		if err != nil {
			return u, err
		}
		u.resident += resident
	}
	if u.own, err = cpuTime(pids...); err != nil {
		return u, err
	}
	u.postgres, err = cpuTime(b.postmaster)
	return u, err
}
