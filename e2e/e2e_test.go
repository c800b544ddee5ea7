//go:build unix

// Package e2e tests the module as people meet it: with the example app, in
// Chromium, with a Caddy that xcaddy has built and a real Postgres.
//
// With MODULE=off in its environment the directive is left out of the
// Caddyfile, which the tests have to notice.
package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

const app = "../examples/nextjs"

func TestBrowser(t *testing.T) {
	ctx := withinTest(t)
	chromium, caddy := requirements(ctx, t)
	install(ctx, t, ".")
	install(ctx, t, app)
	server := postgres(ctx, t)
	artifacts, err := filepath.Abs("artifacts")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.test.mjs")
	if err != nil {
		t.Fatal(err)
	}
	for _, variant := range []string{"v4", "v5"} {
		t.Run(variant, func(t *testing.T) {
			// How often a tab asks for its session is the tests' to say.
			build := []string{"AUTH_VARIANT=" + variant, "NEXT_PUBLIC_REFETCH=3600", "NEXT_TELEMETRY_DISABLED=1"}
			once(t, filepath.Join(app, ".next-"+variant, "e2e-stamp"), digest(t, app, build...), func() {
				command(ctx, t, app, build, "npm", "run", "build")
			})
			out := command(ctx, t, ".", []string{
				"AUTH_VARIANT=" + variant,
				"TMPDIR=" + t.TempDir(),
				"CHROMIUM=" + chromium,
				"E2E_ARTIFACTS=" + artifacts,
				"E2E_CADDY=" + caddy,
				"E2E_POSTGRES=" + server.DSN("postgres"),
				"E2E_POSTGRES_LOG=" + server.LogFile(),
			}, "node", append([]string{"--test", "--test-reporter=spec", "--test-concurrency=1"}, files...)...)
			if count(t, out, "pass") == 0 || count(t, out, "skipped") > 0 || count(t, out, "todo") > 0 {
				t.Error("not all tests were run")
			}
		})
	}
}

// TestDashboard uses the dashboard in a browser.
func TestDashboard(t *testing.T) {
	if os.Getenv("MODULE") == "off" {
		t.Skip("there is no dashboard without the module")
	}
	ctx := withinTest(t)
	chromium, caddy := requirements(ctx, t)
	install(ctx, t, ".")
	server := postgres(ctx, t)
	artifacts, err := filepath.Abs("artifacts")
	if err != nil {
		t.Fatal(err)
	}
	out := command(ctx, t, ".", []string{
		"TMPDIR=" + t.TempDir(),
		"CHROMIUM=" + chromium,
		"E2E_ARTIFACTS=" + artifacts,
		"E2E_CADDY=" + caddy,
		"E2E_POSTGRES=" + server.DSN("postgres"),
	}, "node", "--test", "--test-reporter=spec", "dashboard/dashboard.test.mjs")
	if count(t, out, "pass") == 0 || count(t, out, "skipped") > 0 || count(t, out, "todo") > 0 {
		t.Error("not all tests were run")
	}
}

// postgres starts a server until the end of the test.
func postgres(ctx context.Context, t *testing.T) *pgtest.Server {
	t.Helper()
	server, err := pgtest.Start(ctx, "log_line_prefix=%m [%p] %d ")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// withinTest is a context that ends when the test is interrupted, and soon
// enough before its deadline to end what it has started.
func withinTest(t *testing.T) context.Context {
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	if deadline, ok := t.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-30*time.Second))
		t.Cleanup(cancel)
	}
	return ctx
}

// requirements finds the programs that the tests need, or says what to install.
func requirements(ctx context.Context, t *testing.T) (chromium, caddy string) {
	t.Helper()
	for program, install := range map[string]string{
		"node": "apt-get install nodejs", "npm": "apt-get install npm", "curl": "apt-get install curl",
	} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: %s", err, install)
		}
	}
	if err := exec.CommandContext(ctx, "node", "-e", "const [a, b] = process.versions.node.split('.'); process.exit(a > 20 || a == 20 && b >= 9 ? 0 : 1)").Run(); err != nil {
		t.Fatal("node: Next.js 16 needs version 20.9 or newer")
	}
	chromium = os.Getenv("CHROMIUM")
	if chromium == "" {
		chromium = "chromium"
	}
	chromium, err := exec.LookPath(chromium)
	if err != nil {
		t.Fatalf("%v: apt-get install chromium, or set CHROMIUM to the program", err)
	}
	caddy, err = filepath.Abs("../bin/caddy-xcaddy")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(caddy); err != nil {
		t.Fatalf("%v: make xcaddy", err)
	}
	return chromium, caddy
}

// install installs the packages of a folder, unless they are.
func install(ctx context.Context, t *testing.T, dir string) {
	t.Helper()
	hash := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json"} {
		hashFile(t, hash, filepath.Join(dir, name))
	}
	once(t, filepath.Join(dir, "node_modules", ".e2e-stamp"), hex.EncodeToString(hash.Sum(nil)), func() {
		command(ctx, t, dir, nil, "npm", "ci", "--no-audit", "--no-fund")
	})
}

// once does something, unless the stamp says that it was done with the same
// input.
func once(t *testing.T, stamp, input string, do func()) {
	t.Helper()
	if before, err := os.ReadFile(stamp); err == nil && string(before) == input {
		return
	}
	do()
	if err := os.WriteFile(stamp, []byte(input), 0o644); err != nil {
		t.Fatal(err)
	}
}

// digest is one of all that a build depends on.
func digest(t *testing.T, dir string, more ...string) string {
	t.Helper()
	hash := sha256.New()
	fmt.Fprintln(hash, more)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name == "node_modules" || strings.HasPrefix(name, ".next")):
			return filepath.SkipDir
		case entry.IsDir() || name == "next-env.d.ts" || strings.HasSuffix(name, ".tsbuildinfo"): // made by a build
			return nil
		}
		fmt.Fprintln(hash, path)
		hashFile(t, hash, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func hashFile(t *testing.T, hash io.Writer, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hash.Write(text); err != nil {
		t.Fatal(err)
	}
}

// command runs a program, shows what it prints, and returns that.
func command(ctx context.Context, t *testing.T, dir string, environment []string, name string, args ...string) string {
	t.Helper()
	var out strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdout = io.MultiWriter(&out, t.Output())
	cmd.Stderr = cmd.Stdout
	// It has children, which are to end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), errors.Join(err, ctx.Err()))
	}
	return out.String()
}

// count reads one of the closing lines of Node's test runner.
func count(t *testing.T, out, of string) int {
	t.Helper()
	line := regexp.MustCompile(`(?m)^ℹ ` + of + ` (\d+)$`).FindStringSubmatch(out)
	if line == nil {
		t.Fatalf("the test runner does not say how many tests are %s", of)
	}
	var n int
	if _, err := fmt.Sscan(line[1], &n); err != nil {
		t.Fatal(err)
	}
	return n
}
