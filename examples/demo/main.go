// Command demo runs an app on Postgres with Caddy and the module in front, all
// on the loopback and in a temporary directory.
//
// MODULE=off in the environment leaves the module out, to see what the app does
// without it. PORT chooses Caddy's port.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/jackc/pgx/v5/pgxpool"

	_ "embed"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

//go:embed demo.Caddyfile
var caddyfile string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Getenv("MODULE") != "off", os.Getenv("PORT"))
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && !interrupted {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run runs the demo until ctx is done.
func run(ctx context.Context, module bool, port string) error {
	fmt.Println("Starting Postgres …")
	d, err := start(ctx, module, port)
	if err != nil {
		return err
	}
	fmt.Printf(`
  The app          %s
  The admin area   %[1]s/admin
  The database     %s
  The module       %s

  1. Open the admin area, sign in, upload a file: it works.
  2. Press "Reseed the database": the same people get new ids.
  3. Use the admin area again, and look at the count of foreign-key violations.

  Ctrl-C ends everything and removes what it has written.

`, d.url, d.postgres.DSN("postgres"), map[bool]string{true: "on (MODULE=off leaves it out)", false: "off"}[module])
	<-ctx.Done()
	fmt.Println("Stopping …")
	return d.close()
}

// demo is the running demo.
type demo struct {
	url      string
	app      *app
	postgres *pgtest.Server
	server   *http.Server
	storage  string
}

// start starts the database, the app and Caddy.
func start(ctx context.Context, module bool, port string) (*demo, error) {
	d := new(demo)
	var err error
	if d.postgres, err = pgtest.Start(ctx); err != nil {
		return nil, err
	}
	if err = d.serve(ctx, module, port); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *demo) serve(ctx context.Context, module bool, port string) error {
	const secret = "a secret of the demo, which anybody may know"
	dsn := d.postgres.DSN("postgres")
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	d.app = &app{secret: secret, module: module, pool: pool}
	if err := seed(ctx, pool); err != nil {
		return fmt.Errorf("seeding: %w", err)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.server = &http.Server{Handler: d.app.handler(), ReadHeaderTimeout: 10 * time.Second}
	go d.server.Serve(listener) //nolint:errcheck // it ends with the demo

	if port == "" {
		port = freePort(ctx)
	}
	d.url = "http://localhost:" + port
	if d.storage, err = os.MkdirTemp("", "demo"); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"DATABASE_URL": dsn, "NEXTAUTH_SECRET": secret, "AUTH_SECRET": "", "NEXTAUTH_URL": "", "AUTH_URL": "",
		"STALE_SESSION_MODE": map[bool]string{true: "enforce", false: "off"}[module],
		"DEMO_PORT":          port, "DEMO_APP": listener.Addr().String(), "DEMO_STORAGE": d.storage,
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	text := caddyfile
	if !module {
		text = withoutModule(text)
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "demo.Caddyfile"})
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

// withoutModule removes the directive from the Caddyfile.
func withoutModule(text string) string {
	before, rest, _ := strings.Cut(text, "\tstale_session")
	_, after, _ := strings.Cut(rest, "\n\t}\n")
	return before + after
}

// freePort returns 8080, or another port if that one is in use.
func freePort(ctx context.Context) string {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:8080")
	if err != nil {
		if listener, err = listen.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return "8080"
		}
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// close ends everything and removes what it has written.
func (d *demo) close() error {
	failures := []error{caddy.Stop()}
	if d.server != nil {
		failures = append(failures, d.server.Close())
	}
	if d.app != nil {
		d.app.pool.Close()
	}
	failures = append(failures, d.postgres.Close())
	if d.storage != "" {
		failures = append(failures, os.RemoveAll(d.storage))
	}
	return errors.Join(failures...)
}
