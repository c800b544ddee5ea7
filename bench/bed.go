package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/ports"
)

// bed holds what the measurements need.
type bed struct {
	options options

	dir, app   string
	postgres   *pgtest.Server
	postmaster int // its process
	v4         sessions
	processes  []*process
	perSession int    // bytes of the heap, with very many sessions
	ahead      string // a Caddy whose clock is ahead, for fleets
	// far is the address of the remote database, once it is needed.
	far    string
	endFar func()
}

// start starts the database and the app and creates the sessions.
func (b *bed) start(ctx context.Context) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, "load.lua"), loadScript, 0o600); err != nil {
		return err
	}
	fmt.Println("Postgres with a users table, and sessions …")
	var settings []string
	if b.options.fleet {
		settings = append(settings, "shared_preload_libraries=pg_stat_statements")
	}
	if b.postgres, err = newDatabase(ctx, max(people, b.options.Sessions), settings...); err != nil {
		return err
	}
	if b.postmaster, err = b.findPostmaster(ctx); err != nil {
		return err
	}
	if b.v4, err = writeSessions(filepath.Join(b.dir, "v4"), b.needed(), sessionV4); err != nil {
		return err
	}
	b.app, err = b.startApp(ctx)
	return err
}

// needed returns how many sessions the chosen groups need.
func (b *bed) needed() int {
	n := few
	if b.options.measures("cold") || b.options.measures("away") {
		n = max(n, b.coldSessions())
	}
	if b.options.measures("notice") {
		n = max(n, noticeHot)
	}
	if b.options.measures("many") {
		n = max(n, b.options.Sessions)
	}
	return n
}

// findPostmaster returns the parent process of Postgres.
func (b *bed) findPostmaster(ctx context.Context) (int, error) {
	conn, err := pgx.Connect(ctx, b.postgres.DSN("postgres"))
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", conn.PgConn().PID()))
	if err != nil {
		return 0, err
	}
	s, err := parseStat(text)
	return s.parent, err
}

// startApp starts the app and returns its address.
func (b *bed) startApp(ctx context.Context) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	var out io.ReadCloser
	p, err := start(ctx, func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, self, "-upstream")
		out, err = cmd.StdoutPipe()
		return cmd
	})
	if err != nil {
		return "", err
	}
	b.processes = append(b.processes, p)
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the app prints no address: %w", err)
	}
	return strings.TrimSpace(address), nil
}

// startCaddy starts a Caddy in front of the app, with directives and environment
// variables, and returns its URL.
func (b *bed) startCaddy(ctx context.Context, directives string, variables ...string) (string, *process, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return "", nil, err
	}
	text := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tskip_install_trust\n\tgrace_period 1s\n}\nhttp://%s {\n\t%s\n\treverse_proxy %s\n}\n",
		address, directives, b.app)
	file, err := b.write(fmt.Sprintf("%d.Caddyfile", len(b.processes)), text)
	if err != nil {
		return "", nil, err
	}
	p, err := b.startServer(ctx, address, variables, b.options.caddy, "run", "--config", file, "--adapter", "caddyfile")
	return "http://" + address, p, err
}

// write writes a file and returns its path.
func (b *bed) write(name, text string) (string, error) {
	file := filepath.Join(b.dir, name)
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// startServer starts a program and waits until it answers at an address.
func (b *bed) startServer(ctx context.Context, address string, variables []string, program string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(b.dir, fmt.Sprintf("%d.log", len(b.processes))))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p, err := start(ctx, func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = append([]string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "XDG_DATA_HOME=" + b.dir, "XDG_CONFIG_HOME=" + b.dir,
			"DATABASE_URL=" + b.postgres.DSN("postgres"), "NEXTAUTH_SECRET=" + secret,
		}, variables...) // the last one of a name counts
		cmd.Stdout, cmd.Stderr = log, log
		return cmd
	})
	if err != nil {
		return nil, err
	}
	b.processes = append(b.processes, p)
	if err := answers(ctx, "http://"+address+"/page"); err != nil {
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%s does not answer: %w: %s", program, err, bytes.TrimSpace(said))
	}
	return p, nil
}

// answers waits until a URL answers.
func answers(ctx context.Context, url string) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // between two polls
		_, _, err := ask(ctx, url, "")
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
}

// freeAddress returns an address of the loopback for a server.
func freeAddress(ctx context.Context) (string, error) {
	port, err := ports.Free(ctx)
	return ports.Loopback(port), err
}

// stop ends all processes but the first few.
func (b *bed) stop(after int) {
	for _, p := range b.processes[after:] {
		p.stop()
	}
	b.processes = b.processes[:after]
}

// close ends all processes and removes all files.
func (b *bed) close() error {
	b.stop(0)
	if b.endFar != nil {
		b.endFar()
	}
	var err error
	if b.postgres != nil {
		err = b.postgres.Close()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}
