// Command bench measures what the module costs: it compares Caddy with the
// module to Caddy without it, and to other ways of checking sessions. Each
// target runs in its own process, in front of an app and a Postgres that the
// bench starts. It needs Linux, and runs in the project's directory: see `make
// bench`. It prints tables, and writes docs/performance.md once it has measured
// all groups.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
)

// options are the flags of the command line.
type options struct {
	Rounds, Seconds, Connections, Sessions int
	only                                   []string
	soak                                   time.Duration
	crowd, Trials                          int
	fleet, streams, latency                bool
	after                                  time.Duration
	caddy, out                             string
}

// measures reports whether a group is measured.
func (o options) measures(group string) bool { return o.only == nil || slices.Contains(o.only, group) }

// A process ends with the thread that started it: see attributes. The main
// goroutine starts them all, and keeps the main thread.
func init() { runtime.LockOSThread() }

func main() {
	var o options
	flag.IntVar(&o.Rounds, "rounds", 9, "how many times each target is measured")
	flag.IntVar(&o.Seconds, "seconds", 3, "how long each measurement takes")
	flag.IntVar(&o.Connections, "connections", 16, "the number of concurrent connections")
	flag.IntVar(&o.Sessions, "sessions", 1_000_000, "the number of sessions of the group many")
	flag.Func("only", "measure only these groups: a comma-separated list of "+strings.Join(groupNames(), ", "), func(list string) error {
		o.only = strings.Split(list, ",")
		for _, name := range o.only {
			if !slices.Contains(groupNames(), name) {
				return fmt.Errorf("unknown group %q", name)
			}
		}
		return nil
	})
	flag.DurationVar(&o.soak, "soak", 0, "instead of measuring, put load on Caddy for this long, at most an hour: every version of HTTP, streams and uploads, users who are deleted and inserted, reloads and killed connections; each verdict is checked")
	flag.IntVar(&o.crowd, "crowd", 10_000, "the number of connections that a soak opens first; the limit of open files must allow it")
	flag.BoolVar(&o.fleet, "fleet", false, "instead of the groups, measure fleets of 1, 2 and 4 Caddys with -sessions users, and print the tables of docs/scaling.md")
	flag.BoolVar(&o.streams, "streams", false, "instead of the groups, measure how soon streams end on 1 and on 4 Caddys, and print the tables of docs/scaling.md")
	flag.IntVar(&o.Trials, "trials", 0, "how many streams of each kind, and for each reason, -streams ends (default 1000), and how many times -latency measures each change of each set-up (default 200)")
	flag.BoolVar(&o.latency, "latency", false, "instead of the groups, measure how long people who are deleted, disabled or signed out are served, and write docs/latency.md: see make latency")
	flag.DurationVar(&o.after, "after", 40*time.Second, "how long -latency waits for a refusal")
	flag.StringVar(&o.caddy, "caddy", "bin/caddy-bench", "the Caddy to measure, built from bench/caddy")
	flag.StringVar(&o.out, "out", "docs/performance.md", "the file to write once all is measured")
	upstream := flag.Bool("upstream", false, "run the app behind Caddy (for internal use)")
	flag.Parse()
	if o.Trials == 0 {
		o.Trials = 1000
		if o.latency {
			o.Trials = 200
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch {
	case *upstream:
		err = serveApp(ctx)
	case min(o.Rounds, o.Seconds, o.Connections, o.Sessions, o.Trials) < 1:
		err = errors.New("-rounds, -seconds, -connections, -sessions and -trials must be at least 1")
	case o.soak > 0:
		o.only = []string{"soak"}
		o.soak = min(o.soak, time.Hour)
		b := &bed{options: o}
		if err = b.start(ctx); err == nil {
			err = b.soak(ctx, o.soak)
		}
		err = errors.Join(err, b.close())
	case o.fleet:
		o.only = []string{"fleet"}
		b := &bed{options: o}
		if err = b.start(ctx); err == nil {
			err = b.measureFleet(ctx)
		}
		err = errors.Join(err, b.close())
	case o.streams:
		o.only, o.Sessions = []string{"streams"}, people
		b := &bed{options: o}
		if err = b.start(ctx); err == nil {
			err = b.measureStreams(ctx)
		}
		err = errors.Join(err, b.close())
	case o.latency:
		b := &bed{options: o}
		err = errors.Join(b.measureLatency(ctx), b.close())
	default:
		err = run(ctx, o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run measures everything and writes the report.
func run(ctx context.Context, o options) error {
	if _, err := exec.LookPath("wrk"); err != nil {
		return errors.New("wrk is not installed: run make bench, which installs it")
	}
	if _, err := os.Stat(o.caddy); err != nil {
		return fmt.Errorf("%w: run make bench, which builds it", err)
	}
	if o.measures("forward") || o.measures("next") {
		if err := npm.Install(ctx, nodeDir); err != nil {
			return err
		}
	}
	r := report{
		Date: time.Now().UTC().Format(time.DateOnly), People: people, Few: few, ColdConnections: coldConnections,
		Sessions: o.Sessions, Connections: o.Connections, Groups: map[string]result{},
	}
	if o.measures("go") {
		fmt.Println("Go benchmarks …")
		var err error
		if r.Benchmarks, err = goBenchmarks(ctx); err != nil {
			return err
		}
	}
	b := &bed{options: o}
	if err := errors.Join(b.measureAll(ctx, &r), b.close()); err != nil {
		return err
	}
	if missing := r.missing(); len(missing) > 0 {
		fmt.Printf("%s is not written: %s were not measured\n", o.out, strings.Join(missing, ", "))
		return nil
	}
	text, err := r.render()
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, text, 0o644)
}

// measureAll measures the chosen groups and adds the results to the report.
func (b *bed) measureAll(ctx context.Context, r *report) error {
	err := b.start(ctx)
	if err != nil {
		return err
	}
	if r.Versions, err = b.versions(ctx); err != nil {
		return err
	}
	for _, g := range groups {
		if !b.options.measures(g.name) {
			continue
		}
		fmt.Printf("Group %s …\n", g.name)
		found, err := b.measure(ctx, g)
		if err != nil {
			return fmt.Errorf("group %s: %w", g.name, err)
		}
		fmt.Println("\n" + found.String())
		r.Groups[g.name] = found
	}
	if b.options.measures("attack") {
		fmt.Println("Bad requests …")
		if r.Attack, err = b.measureAttack(ctx); err != nil {
			return fmt.Errorf("attack: %w", err)
		}
		fmt.Println("\n" + r.Attack)
	}
	if b.options.measures("batching") {
		fmt.Println("Batched lookups …")
		table, err := b.measureBatching(ctx)
		if err != nil {
			return fmt.Errorf("batching: %w", err)
		}
		fmt.Println("\n" + table)
		r.Batching = &result{Rounds: b.options.Rounds, Seconds: b.options.Seconds, Tables: []string{table}}
	}
	if b.options.measures("writers") {
		fmt.Println("The cost of triggers …")
		if r.Writers, err = b.measureWriters(ctx); err != nil {
			return fmt.Errorf("writers: %w", err)
		}
		fmt.Println("\n" + r.Writers)
	}
	if !b.options.measures("notice") {
		return nil
	}
	fmt.Println("How soon a change is noticed …")
	found, err := b.measureNoticing(ctx)
	if err != nil {
		return fmt.Errorf("notice: %w", err)
	}
	fmt.Println(found)
	r.Noticing = &found
	return nil
}
