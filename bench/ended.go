package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
)

// The sizes of the measurements of streams.
const (
	// endedRate is how many streams end a second on all nodes together.
	endedRate = 320
	// endedAge is how old a stream is when its session ends: what is younger than a
	// second may go on until it is that old.
	endedAge   = 1200 * time.Millisecond
	endedMass  = 4000 // streams that end at once
	endedTimes = 3    // how often they do
	endedOpen  = 10_000
	endedAsks  = 60 // deletions while so many streams are open
	// endedApart is the time between two requests of those who are not concerned, and
	// endedBefore for how long they are measured before.
	endedApart  = 2 * time.Millisecond
	endedBefore = 5 * time.Second
	endedWithin = 2 * time.Second
)

// endedReason is what ends a session.
type endedReason struct {
	name string
	end  func(ctx context.Context, e *ending, trial int, subject string) (time.Time, error)
}

var endedReasons = []endedReason{
	{"deleted", change(`delete from "User" where id = $1`)},
	{"banned", change(`update "User" set banned = true where id = $1`)},
	{"valid_after", change(`update "User" set "sessionsValidAfter" = now() where id = $1`)},
	{"revoked", func(ctx context.Context, e *ending, trial int, subject string) (time.Time, error) {
		at := time.Now()
		return at, e.nodes[trial%len(e.nodes)].tell(ctx, "revoke", fmt.Sprintf(`{"subject":%q}`, subject))
	}},
}

// change returns a function that runs a statement for a subject, and returns when it was
// sent: what listens can hear of a commit before the client that made it.
func change(statement string) func(context.Context, *ending, int, string) (time.Time, error) {
	return func(ctx context.Context, e *ending, _ int, subject string) (time.Time, error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		at := time.Now()
		tag, err := e.conn.Exec(ctx, statement, subject)
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("%q changed %d users", statement, tag.RowsAffected())
		}
		return at, err
	}
}

// ending measures the ends of streams on some nodes.
type ending struct {
	b     *bed
	nodes []fleetNode
	mu    sync.Mutex // covers conn
	conn  *pgx.Conn
	// person is the next whose session ends: nobody's ends twice.
	person *int
	// how changes reach the nodes, for the tables
	how string
}

// endedOptions are the options of the directive.
const endedOptions = ` {
		users User {
			disabled banned
			valid_after sessionsValidAfter
		}
		cache {
			size 200000
		}%s
	}`

// measureStreams measures how soon streams end, and prints tables in Markdown.
func (b *bed) measureStreams(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.postgres.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `alter table "User" add column banned boolean not null default false, add column "sessionsValidAfter" timestamptz`); err != nil {
		return err
	}
	// Without what is installed in Postgres, the nodes share revocations through Redis.
	redis, err := redistest.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = redis.Close() }()
	shared := fmt.Sprintf("\n\t\trevocations {\n\t\t\tredis %s\n\t\t}", redis.URL())
	person := 0
	for _, c := range []struct {
		how, options string
	}{{"polled", shared}, {"triggers", ""}} {
		if c.how == "triggers" {
			if _, err := runProgram(ctx, ".", b.options.caddy, "stale-session", "install", "--database", b.postgres.DSN("postgres")); err != nil {
				return err
			}
		}
		e := &ending{b: b, conn: conn, person: &person, how: c.how}
		for _, n := range []int{1, 4} {
			if err := e.with(ctx, n, c.options, e.trials); err != nil {
				return err
			}
		}
		if err := e.with(ctx, 1, c.options, e.mass); err != nil {
			return err
		}
		if c.how == "polled" {
			if err := e.crowded(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// with runs a measurement with n nodes.
func (e *ending) with(ctx context.Context, n int, options string, measure func(context.Context) error) error {
	earlier := len(e.b.processes)
	defer func() { e.b.stop(earlier) }()
	e.nodes = nil
	for range n {
		node, err := e.b.startNode(ctx, e.b.options.caddy, fmt.Sprintf(endedOptions, options), e.b.postgres.DSN("postgres"))
		if err != nil {
			return err
		}
		e.nodes = append(e.nodes, node)
	}
	transport.CloseIdleConnections() // of the nodes before
	return measure(ctx)
}

// next returns a person whose session goes on so far, and that.
func (e *ending) next() (id, cookie string, err error) {
	e.mu.Lock()
	id = subject(*e.person)
	*e.person++
	e.mu.Unlock()
	cookie, err = sessionV4(id)
	return id, cookie, err
}

// open opens a stream on a node.
func (n fleetNode) open(ctx context.Context, kind streamKind, cookie string) (*opened, error) {
	base := strings.TrimSuffix(n.url, "/admin")
	if kind.secure {
		base = n.secure
	}
	s, err := kind.open(ctx, kind.transport, base, cookie)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind.name, err)
	}
	return s, nil
}

// trials opens a stream of a person on every node, ends the session, and measures when
// the last of these streams has ended. Those of all kinds and reasons are mixed.
func (e *ending) trials(ctx context.Context) error {
	type row struct {
		kind   streamKind
		reason endedReason
		took   []time.Duration
	}
	var rows []*row
	kinds, others := streamKinds()
	for _, kind := range kinds {
		for _, reason := range endedReasons {
			rows = append(rows, &row{kind: kind, reason: reason})
		}
	}
	for _, kind := range others {
		rows = append(rows, &row{kind: kind, reason: endedReasons[0]})
	}
	var order []*row
	for range e.b.options.Trials {
		order = append(order, rows...)
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	apart := time.Second * time.Duration(len(e.nodes)) / endedRate
	var mu sync.Mutex
	work, ctx := errgroup.WithContext(ctx)
	ticker := time.NewTicker(apart)
	defer ticker.Stop()
	for i, r := range order {
		select {
		case <-ctx.Done():
			return work.Wait()
		case <-ticker.C:
		}
		work.Go(func() error {
			took, err := e.trial(ctx, r.kind, r.reason, i)
			mu.Lock()
			defer mu.Unlock()
			r.took = append(r.took, took)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	fmt.Printf("\n%d nodes, %s, %d trials each:\n\n| stream | session | p50 | p99 | longest |\n|---|---|---|---|---|\n", len(e.nodes), e.how, e.b.options.Trials)
	for _, r := range rows {
		l := latenciesOf(r.took)
		fmt.Printf("| %s | %s | %s | %s | %s |\n", r.kind.name, r.reason.name, l.P50, l.P99, l.Max)
	}
	return nil
}

// trial ends the streams of one person.
func (e *ending) trial(ctx context.Context, kind streamKind, reason endedReason, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, fleetLost)
	defer cancel()
	id, cookie, err := e.next()
	if err != nil {
		return 0, err
	}
	all := make([]*opened, len(e.nodes))
	for i, node := range e.nodes {
		if all[i], err = node.open(ctx, kind, cookie); err != nil {
			return 0, err
		}
	}
	time.Sleep(endedAge)
	for _, s := range all {
		if s.over() {
			return 0, fmt.Errorf("%s: the stream of a live session has ended: %w", kind.name, s.err)
		}
	}
	began, err := reason.end(ctx, e, n, id)
	if err != nil {
		return 0, err
	}
	var last time.Time
	for _, s := range all {
		at, err := s.wait(ctx)
		if err != nil {
			return 0, fmt.Errorf("%s, %s: %w", kind.name, reason.name, err)
		}
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(began), nil
}

// openMany opens many streams, each of another person.
func (e *ending) openMany(ctx context.Context, n int, kinds ...streamKind) (all []*opened, ids []string, err error) {
	all, ids = make([]*opened, n), make([]string, n)
	work, opening := errgroup.WithContext(ctx)
	work.SetLimit(askers)
	for i := range all {
		work.Go(func() error {
			id, cookie, err := e.next()
			if err != nil || opening.Err() != nil {
				return err
			}
			ids[i] = id
			all[i], err = e.nodes[0].open(ctx, kinds[i%len(kinds)], cookie)
			return err
		})
	}
	return all, ids, work.Wait()
}

// mass ends thousands of streams by one statement, while other people send requests.
func (e *ending) mass(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kinds, _ := streamKinds()
	_, other, err := e.next()
	if err != nil {
		return err
	}
	var lasts, before, during []time.Duration
	for range endedTimes {
		all, ids, err := e.openMany(ctx, endedMass, kinds[0], kinds[1])
		if err != nil {
			return err
		}
		took, err := e.askFor(ctx, other, endedBefore)
		if err != nil {
			return err
		}
		before = append(before, took...)
		var asking errgroup.Group
		asking.Go(func() error {
			took, err := e.askFor(ctx, other, endedWithin)
			during = append(during, took...)
			return err
		})
		began := time.Now()
		if _, err := e.conn.Exec(ctx, `delete from "User" where id = any($1)`, ids); err != nil {
			return err
		}
		var last time.Time
		for _, s := range all {
			at, err := s.wait(ctx)
			if err != nil {
				return err
			}
			if at.After(last) {
				last = at
			}
		}
		lasts = append(lasts, last.Sub(began))
		if err := asking.Wait(); err != nil {
			return err
		}
	}
	calm, busy := latenciesOf(before), latenciesOf(during)
	fmt.Printf("\n%d streams, half WebSockets and half event streams, ended by one DELETE, %s: the last after %s (%d times). Requests of somebody else: p99 %s before, %s in the %s from the DELETE on, %.2f times as long (p50 %s and %s).\n",
		endedMass, e.how, durations(lasts), endedTimes, calm.P99, busy.P99, endedWithin, busy.P99.Seconds()/calm.P99.Seconds(), calm.P50, busy.P50)
	return nil
}

// askFor sends requests for some time, and returns how long each took. One that begins
// late, because the one before took long, counts from when it was due.
func (e *ending) askFor(ctx context.Context, cookie string, d time.Duration) (all []time.Duration, err error) {
	until := time.Now().Add(d)
	for due := time.Now(); due.Before(until); due = due.Add(endedApart) {
		time.Sleep(time.Until(due))
		status, _, err := ask(ctx, e.nodes[0].url, cookie)
		if err != nil || status != http.StatusOK {
			return nil, errors.Join(err, fmt.Errorf("a live session got status %d", status))
		}
		all = append(all, time.Since(due))
	}
	return all, nil
}

func durations(all []time.Duration) string {
	slices.Sort(all)
	var texts []string
	for _, d := range all {
		texts = append(texts, d.Round(time.Millisecond).String())
	}
	return strings.Join(texts, ", ")
}

// crowded measures what very many open streams cost: memory, and the time until a
// request of an account in use is refused, while others write.
func (e *ending) crowded(ctx context.Context) error {
	fmt.Printf("\n| streams, nothing installed | open | heap | a stream | requests refused: p50 | p99 | longest |\n|---|---|---|---|---|---|---|\n")
	var first int
	for _, c := range []struct {
		options string
		open    int
	}{{"off", endedOpen}, {"on", 0}, {"on", endedOpen}} {
		err := e.with(ctx, 1, "\n\t\tstreams "+c.options, func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			kinds, _ := streamKinds()
			if _, _, err := e.openMany(ctx, c.open, kinds[3]); err != nil { // by few connections
				return err
			}
			h, err := target{url: e.nodes[0].url, collects: true}.heap(ctx)
			if err != nil {
				return err
			}
			l, err := e.refused(ctx)
			if err != nil {
				return err
			}
			each := "–"
			switch {
			case c.options == "off":
				first = h.Live
			case c.open > 0:
				each = fmt.Sprintf("%d B more than with `off`", (h.Live-first)/c.open)
			}
			fmt.Printf("| `%s` | %d | %.1f MiB | %s | %s | %s | %s |\n", c.options, c.open, float64(h.Live)/(1<<20), each, l.P50, l.P99, l.Max)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// refused deletes people one after the other whose accounts are in use, while something
// is written all the time, and measures when their requests are refused.
func (e *ending) refused(ctx context.Context) (latencies, error) {
	writing, stop := context.WithCancel(ctx)
	defer stop()
	var writer errgroup.Group
	writer.Go(func() error { return e.write(writing) })
	var all []time.Duration
	for range endedAsks {
		id, cookie, err := e.next()
		if err != nil {
			return latencies{}, err
		}
		for range 2 { // in use
			if status, _, err := ask(ctx, e.nodes[0].url, cookie); err != nil || status != http.StatusOK {
				return latencies{}, errors.Join(err, fmt.Errorf("before the deletion: status %d", status))
			}
		}
		time.Sleep(rand.N(poll)) // at any time between two polls
		at, err := endedReasons[0].end(ctx, e, 0, id)
		if err != nil {
			return latencies{}, err
		}
		for status := 0; status != http.StatusUnauthorized; time.Sleep(time.Millisecond) {
			if status, _, err = ask(ctx, e.nodes[0].url, cookie); err != nil {
				return latencies{}, err
			}
		}
		all = append(all, time.Since(at))
	}
	stop()
	return latenciesOf(all), writer.Wait()
}

// write writes to a table that is not watched.
func (e *ending) write(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, e.b.postgres.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `create table if not exists foreign_writer (n int)`); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if _, err := conn.Exec(ctx, `insert into foreign_writer values (1)`); err != nil && ctx.Err() == nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}
