// Command bench measures what the module costs a whole Caddy: requests per
// second, CPU per request and latency, with and without it, in one interleaved
// run. It writes docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/pgtest"
)

// sessions is how many users are signed in.
const sessions = 1000

const secret = "a secret of the benchmark"

func main() {
	rounds := flag.Int("rounds", 7, "how often each target is measured")
	seconds := flag.Int("seconds", 3, "how long, each time")
	connections := flag.Int("connections", 16, "connections of the load")
	out := flag.String("out", "docs/performance.md", "the page to write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *rounds, load{seconds: *seconds, connections: *connections}, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run measures all targets and writes the page.
func run(ctx context.Context, rounds int, l load, out string) (err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pg, err := pgtest.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.Close()) }()
	err = pg.Exec(ctx, "postgres", `create table "User" (id text primary key)`,
		fmt.Sprintf(`insert into "User" select 'user-' || g from generate_series(1, %d) g`, sessions), `analyze`)
	if err != nil {
		return err
	}
	if l.script, err = writeScript(dir); err != nil {
		return err
	}
	app, err := serveApp(ctx)
	if err != nil {
		return err
	}
	environment := append(os.Environ(), "DATABASE_URL="+pg.DSN("postgres"), "NEXTAUTH_SECRET="+secret, "AUTH_SECRET=", "AUTH_URL=", "NEXTAUTH_URL=", "STALE_SESSION_MODE=", "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)

	const guarded = "@guarded path /admin*\n\tstale_session @guarded"
	plain, err := startCaddy(ctx, dir, "plain", "", app, environment)
	if err != nil {
		return err
	}
	defer plain.stop()
	with, err := startCaddy(ctx, dir, "with", guarded, app, environment)
	if err != nil {
		return err
	}
	defer with.stop()
	off, err := startCaddy(ctx, dir, "off", guarded+" {\n\t\tmode off\n\t}", app, environment)
	if err != nil {
		return err
	}
	defer off.stop()

	targets := []*target{
		{name: "plain Caddy `reverse_proxy`", caddy: plain, path: "/admin"},
		{name: "with the module, guarded route", caddy: with, path: "/admin"},
		{name: "with the module, another route", caddy: with, path: "/"},
		{name: "with the module, `mode off`", caddy: off, path: "/admin"},
	}
	for round := range rounds + 1 {
		for i := range targets {
			t := targets[(i+round)%len(targets)]
			m, err := l.measure(ctx, t)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if round > 0 { // the first one warms up
				t.measured = append(t.measured, m)
			}
			fmt.Printf("round %d  %-32s %s\n", round, t.name, m)
		}
	}
	page, err := render(targets, rounds, l, time.Now())
	if err != nil {
		return err
	}
	fmt.Println(table(targets))
	return os.WriteFile(out, page, 0o644)
}

// writeScript writes the script by which wrk sends another session with each
// request.
func writeScript(dir string) (string, error) {
	var script strings.Builder
	script.WriteString("local cookies = {\n")
	for i := range sessions {
		token, err := mint.V4(secret, map[string]any{"sub": fmt.Sprintf("user-%d", i+1), "name": "Ada Lovelace", "email": "ada@example.com"})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&script, "%q,\n", "theme=dark; next-auth.session-token="+token)
	}
	script.WriteString("}\nmath.randomseed(1)\nfunction request()\n  wrk.headers['Cookie'] = cookies[math.random(#cookies)]\n  return wrk.format('GET')\nend\n")
	file := filepath.Join(dir, "sessions.lua")
	return file, os.WriteFile(file, []byte(script.String()), 0o600)
}

// serveApp starts the app, which answers with a few bytes.
func serveApp(ctx context.Context) (string, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "an answer of the app")
	})}
	go server.Serve(listener) //nolint:errcheck // it ends with the program
	return listener.Addr().String(), nil
}
