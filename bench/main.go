// Command bench measures what the module costs: whole Caddy processes with and
// without it, in turns, before an app and a Postgres of their own. It needs
// Linux, wrk and bin/caddy, prints a table and writes docs/performance.md.
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
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	Rounds, Seconds, Connections int
	caddy, out                   string
}

// The thread that starts a process must live as long as that does: see
// attributes. The main goroutine, which starts all, keeps the main thread.
func init() { runtime.LockOSThread() }

func main() {
	var o options
	flag.IntVar(&o.Rounds, "rounds", 5, "how often each target is measured")
	flag.IntVar(&o.Seconds, "seconds", 4, "how long each measurement takes")
	flag.IntVar(&o.Connections, "connections", 16, "how many connections ask at a time")
	flag.StringVar(&o.caddy, "caddy", "bin/caddy", "the Caddy to measure, with the module")
	flag.StringVar(&o.out, "out", "docs/performance.md", "the file to write")
	upstream := flag.Bool("upstream", false, "be the app behind Caddy (for the bench's own use)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch {
	case *upstream:
		err = serveApp(ctx)
	case o.Rounds < 1 || o.Seconds < 1 || o.Connections < 1:
		err = errors.New("-rounds, -seconds and -connections are at least 1")
	default:
		err = run(ctx, o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run measures everything, and writes the report.
func run(ctx context.Context, o options) error {
	if _, err := exec.LookPath("wrk"); err != nil {
		return errors.New("wrk is missing: install it with `apt-get install wrk`, or your system's own package")
	}
	if _, err := os.Stat(o.caddy); err != nil {
		return fmt.Errorf("%w: build it with `make build`", err)
	}
	fmt.Println("Go benchmarks …")
	benchmarks, err := goBenchmarks(ctx)
	if err != nil {
		return err
	}
	b := &bed{options: o}
	err = b.start(ctx)
	var r report
	if err == nil {
		r, err = b.measure(ctx)
	}
	if err := errors.Join(err, b.close()); err != nil {
		return err
	}
	r.Options, r.Benchmarks, r.Date = o, benchmarks, time.Now().UTC().Format(time.DateOnly)
	fmt.Println("\n" + r.Table)
	text, err := r.render()
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, text, 0o644)
}
