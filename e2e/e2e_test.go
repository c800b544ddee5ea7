//go:build unix

// Package e2e tests the module as people meet it: with the example app and one of
// each other framework, in Chromium, with a Caddy that xcaddy has built and a real Postgres.
//
// With MODULE=off in its environment the directive is left out of the
// Caddyfile, and the tests have to fail.
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
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
)

const (
	example = "../examples/nextjs"
	apps    = "apps" // one of each other framework and library
)

// What make xcaddy builds.
const (
	bare      = "caddy-xcaddy"
	withRedis = "caddy-xcaddy-redis"
)

// browsers are the names of Chromium. tools/setup looks for them, too.
var browsers = []string{
	"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome",
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
}

// installing guards what the tests below install and build.
var installing sync.Mutex

func TestBrowser(t *testing.T) {
	t.Parallel()
	ctx := withinTest(t)
	environment := prepare(ctx, t, bare)
	files, err := filepath.Glob("*.test.mjs")
	if err != nil {
		t.Fatal(err)
	}
	for _, variant := range []string{"v4", "v5"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			// How often a tab asks for its session is the tests' to say.
			variables := []string{"AUTH_VARIANT=" + variant, "NEXT_PUBLIC_REFETCH=3600", "NEXT_TELEMETRY_DISABLED=1"}
			build(ctx, t, example, ".next-"+variant, variables...)
			run(ctx, t, 2, append(slices.Clone(environment), "AUTH_VARIANT="+variant), files...)
		})
	}
}

// TestFrameworks uses an app of each other framework, and of each library whose sessions
// are read, in a browser.
func TestFrameworks(t *testing.T) {
	t.Parallel()
	ctx := withinTest(t)
	environment := prepare(ctx, t, withRedis)
	install(ctx, t, apps)
	for _, app := range []string{"nuxt", "react-router", "sveltekit"} {
		build(ctx, t, filepath.Join(apps, app), "build")
	}
	files, err := filepath.Glob(filepath.Join(apps, "*.test.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := redistest.Start(ctx) // of an app with Better Auth
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sessions.Close(); err != nil {
			t.Error(err)
		}
	})
	run(ctx, t, 1, append(environment, "AUTH_VARIANT=apps", "E2E_REDIS="+sessions.URL()), files...)
}

// TestDashboard uses the dashboard in a browser, and streams by the clients that apps
// use.
func TestDashboard(t *testing.T) {
	if os.Getenv("MODULE") == "off" {
		t.Skip("there is no dashboard without the module")
	}
	t.Parallel()
	ctx := withinTest(t)
	run(ctx, t, 2, prepare(ctx, t, bare), "dashboard/dashboard.test.mjs", "streams/streams.test.mjs")
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

// prepare installs the packages, starts Postgres until the end of the test, and
// returns the environment of the tests in Node, with a Caddy that make xcaddy has built.
func prepare(ctx context.Context, t *testing.T, build string) []string {
	t.Helper()
	browser := os.Getenv("CHROMIUM")
	for _, name := range browsers {
		if browser == "" {
			browser, _ = exec.LookPath(name) // empty when it is not there
		}
	}
	if browser == "" {
		t.Fatal("Chromium is not installed: run make setup")
	}
	caddy, err := filepath.Abs("../bin/" + build)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(caddy); err != nil {
		t.Fatalf("%v: run make xcaddy", err)
	}
	artifacts, err := filepath.Abs("artifacts")
	if err != nil {
		t.Fatal(err)
	}
	install(ctx, t, ".")
	// Each app keeps up to ten connections.
	server := pgtest.StartFor(t, "log_line_prefix=%m [%p] %d ", "max_connections=200")
	return []string{
		"CHROMIUM=" + browser,
		"E2E_ARTIFACTS=" + artifacts,
		"E2E_CADDY=" + caddy,
		"E2E_POSTGRES=" + server.DSN("postgres"),
		"E2E_POSTGRES_LOG=" + server.LogFile(),
	}
}

// install installs the packages of a folder.
func install(ctx context.Context, t *testing.T, folder string) {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	if err := npm.Install(ctx, folder); err != nil {
		t.Fatal(err)
	}
}

// build builds an app into a folder in it, unless nothing has changed since. Two
// builds of the example at a time would both write next-env.d.ts.
func build(ctx context.Context, t *testing.T, app, output string, environment ...string) {
	t.Helper()
	if app == example {
		install(ctx, t, app)
	}
	installing.Lock()
	defer installing.Unlock()
	stamp, input := filepath.Join(app, output, "e2e-stamp"), digest(t, app, environment)
	if built, err := os.ReadFile(stamp); err == nil && string(built) == input {
		return
	}
	command(ctx, t, app, environment, "npm", "run", "build")
	if err := os.WriteFile(stamp, []byte(input), 0o644); err != nil {
		t.Fatal(err)
	}
}

// digest is one of all that a build depends on.
func digest(t *testing.T, app string, environment []string) string {
	t.Helper()
	hash := sha256.New()
	fmt.Fprintln(hash, environment)
	err := filepath.WalkDir(app, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name == "node_modules" || name == "build" || path != app && name[0] == '.'):
			return filepath.SkipDir
		case entry.IsDir() || name == "next-env.d.ts" || strings.HasSuffix(name, ".tsbuildinfo"): // made by a build
			return nil
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(hash, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// run runs test files in Node, so many of them in parallel.
func run(ctx context.Context, t *testing.T, parallel int, environment []string, files ...string) {
	t.Helper()
	environment = append(environment, "TMPDIR="+t.TempDir())
	out := command(ctx, t, ".", environment, "node", append([]string{"--test", "--test-reporter=spec", fmt.Sprintf("--test-concurrency=%d", parallel)}, files...)...)
	if count(t, out, "pass") == 0 || count(t, out, "skipped") > 0 || count(t, out, "todo") > 0 {
		t.Error("not all tests were run")
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
	// It has children, which have to end with it.
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
