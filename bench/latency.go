package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// How a trial goes.
const (
	latencyApart = 90 * time.Millisecond // between the starts of two trials
	latencyPace  = 2 * time.Millisecond  // between two requests, at first
	latencyShare = 20                    // later they are as far apart as this part of the time that has passed
	latencyCosts = 300                   // requests that the cost is measured with
)

//go:embed latency.md.tmpl
var latencyPage string

var latencyTemplate = template.Must(template.New("latency.md").Parse(latencyPage))

// latencyReport is the data of docs/latency.md.
type latencyReport struct {
	Date      string
	Versions  versions
	Libraries map[string]string // versions of npm packages
	Trials    int               // of each set-up and change
	Costs     int               // requests that the cost is measured with
	After     time.Duration
	Changes   []string
	Setups    []latencyRow
}

// latencyRow is what was measured of a set-up.
type latencyRow struct {
	Name, Bound       string
	Requests, Streams [3]delays // by change
	Queries           float64   // per request
	P50, Added        float64   // milliseconds
	Base              string    // what Added is compared with
}

// delays are how long something took in each trial, or never where it had not happened
// in the end.
type delays []time.Duration

const never = time.Duration(-1)

// Say returns the latencies, or what is still the case.
func (d delays) Say(still string, after time.Duration) string {
	all := slices.DeleteFunc(slices.Clone(d), func(delay time.Duration) bool { return delay == never })
	rest := len(d) - len(all)
	if len(all) == 0 {
		return fmt.Sprintf("%s after %s", still, after)
	}
	l := latenciesOf(all)
	text := fmt.Sprintf("%.1f / %.1f / %.1f", in(time.Millisecond, l.P50), in(time.Millisecond, l.P99), in(time.Millisecond, l.Max))
	if rest > 0 {
		text += fmt.Sprintf("; %d of %d %s after %s", rest, len(d), still, after)
	}
	return text
}

// render returns docs/latency.md.
func (r latencyReport) render() (string, error) {
	var b strings.Builder
	err := latencyTemplate.Execute(&b, r)
	return b.String(), err
}

// measureLatency measures how long people who are gone are served, and writes the
// report.
func (b *bed) measureLatency(ctx context.Context) error {
	o := b.options
	r := latencyReport{Date: time.Now().UTC().Format(time.DateOnly), Trials: o.Trials, After: o.after, Costs: latencyCosts, Changes: changes}
	var err error
	if r.Libraries, err = packageVersions(nodeDir); err != nil {
		return err
	}
	if err := npm.Install(ctx, nodeDir); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	if b.postgres, err = pgtest.Start(ctx, "max_connections=200", "shared_preload_libraries=pg_stat_statements"); err != nil {
		return err
	}
	if r.Versions, err = b.versions(ctx); err != nil {
		return err
	}
	all := setups()
	for _, s := range all {
		fmt.Println(s.name, "…")
		if err := b.startSetup(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		defer s.pool.Close()
		r.Setups = append(r.Setups, latencyRow{Name: s.name, Bound: s.bound, Base: all[s.base].name})
	}
	fmt.Println("The cost of a request …")
	if err := b.measureCosts(ctx, all, r.Setups); err != nil {
		return err
	}
	fmt.Printf("%d trials, for %s …\n", len(all)*len(changes)*o.Trials, latencyApart*time.Duration(len(all)*len(changes)*o.Trials)+o.after)
	if err := measureTrials(ctx, all, r.Setups, o); err != nil {
		return err
	}
	text, err := r.render()
	if err != nil {
		return err
	}
	fmt.Println(text)
	return os.WriteFile(o.out, []byte(text), 0o644)
}

// measureTrials runs the trials of all set-ups and changes in turns. Trials overlap.
func measureTrials(ctx context.Context, all []*setup, rows []latencyRow, o options) error {
	trials, ctx := errgroup.WithContext(ctx)
	ticker := time.NewTicker(latencyApart)
	defer ticker.Stop()
	var writing sync.Mutex
	for range o.Trials {
		for change := range changes {
			for _, i := range rand.Perm(len(all)) {
				select {
				case <-ctx.Done():
					if err := trials.Wait(); err != nil {
						return err
					}
					return ctx.Err()
				case <-ticker.C:
				}
				trials.Go(func() error {
					request, stream, err := all[i].trial(ctx, change, o.after)
					if err != nil {
						return fmt.Errorf("%s, %s: %w", all[i].name, changes[change], err)
					}
					writing.Lock()
					defer writing.Unlock()
					rows[i].Requests[change] = append(rows[i].Requests[change], request)
					rows[i].Streams[change] = append(rows[i].Streams[change], stream)
					return nil
				})
			}
		}
	}
	return trials.Wait()
}

// trial signs somebody in, opens a stream, commits a change at any time, and returns
// how long after it the first request is refused, and the stream ended.
func (s *setup) trial(ctx context.Context, change int, after time.Duration) (request, stream time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := s.library.signIn(ctx, s)
	if err != nil {
		return 0, 0, err
	}
	open, err := s.open(ctx, p.cookie)
	if err != nil {
		return 0, 0, err
	}
	for range 2 { // in use
		served, err := s.serves(ctx, p.cookie)
		if err != nil || !served {
			return 0, 0, errors.Join(err, errors.New("a request is refused before the change"))
		}
		time.Sleep(rand.N(poll)) // at any time between two polls
	}
	if open.hasEnded() {
		return 0, 0, errors.New("the stream ends before the change")
	}
	if err := s.changed(ctx, s.library.changes[change], p); err != nil {
		return 0, 0, err
	}
	committed := time.Now()
	for request = never; request == never && time.Since(committed) < after; {
		served, err := s.serves(ctx, p.cookie)
		if err != nil {
			return 0, 0, err
		}
		passed := time.Since(committed)
		if !served {
			request = passed
			break
		}
		time.Sleep(max(latencyPace, passed/latencyShare))
	}
	if stream, err = open.after(ctx, committed, after); err != nil {
		return 0, 0, err
	}
	served, err := s.serves(ctx, p.cookie)
	switch {
	case err != nil:
	case served && request != never:
		err = fmt.Errorf("a request is served, and one %s after the commit was refused", request)
	case !served && request == never: // only just
		request = time.Since(committed)
	}
	return request, stream, err
}

// serves reports whether a request reaches the app's page.
func (s *setup) serves(ctx context.Context, cookie string) (bool, error) {
	status, body, err := ask(ctx, s.url+"/admin", cookie)
	if err == nil && status != http.StatusUnauthorized && (status != http.StatusOK || body != appBody) {
		err = fmt.Errorf("a request is answered with %d %q", status, body)
	}
	return status == http.StatusOK, err
}

// openStream is a stream of events that somebody reads.
type openStream struct {
	ended  chan struct{} // closed once it has
	end    time.Time     // when
	events chan struct{} // has one if an event has come
}

// hasEnded reports whether a stream has ended.
func (o *openStream) hasEnded() bool {
	select {
	case <-o.ended:
		return true
	default:
		return false
	}
}

// after returns how long after a time the stream ended. It waits until the stream has
// ended, and no longer than so long.
func (o *openStream) after(ctx context.Context, from time.Time, long time.Duration) (time.Duration, error) {
	timer := time.NewTimer(time.Until(from.Add(long)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-o.ended:
		return o.end.Sub(from), nil
	case <-timer.C:
	}
	// Drop an event that may have come before, and see that others come.
	for range 2 {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-o.ended:
			return o.end.Sub(from), nil
		case <-o.events:
		}
	}
	return never, nil
}

// open opens a stream of events.
func (s *setup) open(ctx context.Context, cookie string) (*openStream, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/admin/events", http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Cookie", cookie)
	response, err := transport.RoundTrip(request) //nolint:bodyclose // below, once it has ended
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(response.Body.Close(), errors.New("the stream is answered with "+response.Status))
	}
	o := &openStream{ended: make(chan struct{}), events: make(chan struct{}, 1)}
	go func() {
		defer response.Body.Close()
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			select {
			case o.events <- struct{}{}:
			default:
			}
		}
		o.end = time.Now()
		close(o.ended)
	}()
	return o, nil
}

// measureCosts measures what a request of somebody who stays costs, of all set-ups in
// turns.
func (b *bed) measureCosts(ctx context.Context, all []*setup, rows []latencyRow) error {
	conn, err := pgx.Connect(ctx, b.postgres.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "create extension pg_stat_statements"); err != nil {
		return err
	}
	people, before, times := make([]person, len(all)), make([]int, len(all)), make([]delays, len(all))
	for round := range 2 * latencyCosts { // the first half warms up
		for _, i := range rand.Perm(len(all)) {
			if round == 0 {
				if people[i], err = all[i].library.signIn(ctx, all[i]); err != nil {
					return err
				}
			}
			if round == latencyCosts {
				if before[i], err = all[i].queries(ctx, conn); err != nil {
					return err
				}
			}
			began := time.Now()
			served, err := all[i].serves(ctx, people[i].cookie)
			if err != nil || !served {
				return errors.Join(err, errors.New(all[i].name+": a live session is refused"))
			}
			if round >= latencyCosts {
				times[i] = append(times[i], time.Since(began))
			}
		}
	}
	for i, s := range all {
		asked, err := s.queries(ctx, conn)
		if err != nil {
			return err
		}
		slices.Sort(times[i])
		rows[i].Queries = float64(asked-before[i]) / latencyCosts
		rows[i].P50 = in(time.Millisecond, times[i][latencyCosts/2])
	}
	for i, s := range all {
		rows[i].Added = rows[i].P50 - rows[s.base].P50
	}
	return nil
}
