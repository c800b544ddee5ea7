package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/pgtest"
)

// bed is what the measurements are made on.
type bed struct {
	options options

	dir       string
	postgres  *pgtest.Server
	processes []*process
	targets   []target
	sessions  []string
}

// target is a URL that is measured, and the Caddy that answers it.
type target struct {
	name, url string
	caddy     *process
	checks    bool // whether a stale session is answered by the module
}

// start starts the database, the app and every Caddy.
func (b *bed) start(ctx context.Context) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	fmt.Println("Postgres, an app and three Caddys …")
	if b.postgres, err = newDatabase(ctx); err != nil {
		return err
	}
	if b.sessions, err = sessions(); err != nil {
		return err
	}
	for name, text := range map[string][]byte{"load.lua": loadScript, "sessions": []byte(strings.Join(b.sessions, "\n") + "\n")} {
		if err := os.WriteFile(filepath.Join(b.dir, name), text, 0o600); err != nil {
			return err
		}
	}
	app, err := b.startApp(ctx)
	if err != nil {
		return err
	}
	for _, t := range []struct {
		directives string
		targets    []target
	}{
		{"", []target{{name: "plain `reverse_proxy`", url: "/admin"}}},
		{"@guarded path /admin* /api/admin*\n\tstale_session @guarded", []target{
			{name: "`stale_session`, guarded route", url: "/admin", checks: true},
			{name: "`stale_session`, other route", url: "/page"},
		}},
		{"@guarded path /admin* /api/admin*\n\tstale_session @guarded {\n\t\tmode off\n\t}", []target{{name: "`mode off`", url: "/admin"}}},
	} {
		base, caddy, err := b.startCaddy(ctx, t.directives, app)
		if err != nil {
			return err
		}
		for _, target := range t.targets {
			target.url, target.caddy = base+target.url, caddy
			b.targets = append(b.targets, target)
		}
	}
	return b.prove(ctx)
}

// startApp starts the app, and returns its address.
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
		return "", fmt.Errorf("the app says no address: %w", err)
	}
	return strings.TrimSpace(address), nil
}

// startCaddy starts a Caddy on a free port, and waits until it answers.
func (b *bed) startCaddy(ctx context.Context, directives, app string) (string, *process, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	base := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", nil, err
	}
	file := filepath.Join(b.dir, fmt.Sprintf("%d.Caddyfile", len(b.processes)))
	text := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tskip_install_trust\n\tgrace_period 1s\n}\n%s {\n\t%s\n\treverse_proxy %s\n}\n",
		base, directives, app)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", nil, err
	}
	log, err := os.Create(file + ".log")
	if err != nil {
		return "", nil, err
	}
	defer log.Close()
	p, err := start(ctx, func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, b.options.caddy, "run", "--config", file, "--adapter", "caddyfile")
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "XDG_DATA_HOME=" + b.dir, "XDG_CONFIG_HOME=" + b.dir,
			"DATABASE_URL=" + b.postgres.DSN("postgres"), "NEXTAUTH_SECRET=" + secret,
		}
		cmd.Stdout, cmd.Stderr = log, log
		return cmd
	})
	if err != nil {
		return "", nil, err
	}
	b.processes = append(b.processes, p)
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, _, err = ask(ctx, base, ""); err == nil {
			return base, p, nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			said, _ := os.ReadFile(file + ".log")
			return "", nil, fmt.Errorf("caddy does not answer: %w: %s", err, bytes.TrimSpace(said))
		}
		time.Sleep(20 * time.Millisecond) // between two polls
	}
}

// prove shows that every target does what its name says, and asks for every
// session once.
func (b *bed) prove(ctx context.Context) error {
	stale, err := session("c-is-gone")
	if err != nil {
		return err
	}
	for _, t := range b.targets {
		status, body, err := ask(ctx, t.url, stale)
		switch {
		case err != nil:
			return err
		case t.checks != (status == http.StatusUnauthorized), !t.checks && (status != http.StatusOK || body != appBody):
			return fmt.Errorf("%s answers a stale session with %d %q", t.name, status, body)
		}
		if !t.checks {
			continue
		}
		for _, session := range b.sessions {
			if status, body, err := ask(ctx, t.url, session); err != nil || status != http.StatusOK || body != appBody {
				return errors.Join(err, fmt.Errorf("%s answers a live session with %d %q", t.name, status, body))
			}
		}
	}
	return nil
}

// ask sends a request with a Cookie field, as a program does.
func ask(ctx context.Context, url, cookie string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Cookie", cookie)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// close ends everything and removes what it has written.
func (b *bed) close() error {
	var failures []error
	for _, p := range b.processes {
		p.stop()
	}
	if b.postgres != nil {
		failures = append(failures, b.postgres.Close())
	}
	return errors.Join(append(failures, os.RemoveAll(b.dir))...)
}
