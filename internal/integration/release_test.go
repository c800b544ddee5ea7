package integration

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

var archive = flag.String("archive", "", "the archive of a release, which make release-snapshot builds; empty for a Caddy and the files of this checkout")

// unpack returns the directory of an unpacked release.
func unpack(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if *archive == "" {
		for from, to := range map[string]string{program(t): "caddy", "../../README.md": "README.md", "../../LICENSE": "LICENSE", "../../Caddyfile.example": "Caddyfile.example"} {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, to), text, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	if out, err := exec.Command("tar", "-xzf", *archive, "-C", dir, "--strip-components=1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// TestTheReadmeWorksWithoutGo does in the directory of a release what README says,
// with nothing else in the environment.
func TestTheReadmeWorksWithoutGo(t *testing.T) {
	dir := unpack(t)
	database := standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	var own [2]string // the addresses of Caddy's site and admin endpoint
	for i := range own {
		own[i] = "127.0.0.1:" + caddytest.FreePort(t)
	}
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	site := regexp.MustCompile("(?s)```caddyfile\n(http://localhost:8080 .*?)```").FindSubmatch(readme)
	if site == nil {
		t.Fatal("README.md has no Caddyfile for development")
	}
	caddyfile := strings.NewReplacer("localhost:8080", own[0], "localhost:3000", app.Listener.Addr().String()).Replace(string(site[1]))
	for file, text := range map[string]string{
		"Caddyfile": "{\n\tadmin " + own[1] + "\n}\n" + caddyfile,
		".env":      fmt.Sprintf("DATABASE_URL=%s\nNEXTAUTH_SECRET=%s\nNEXTAUTH_URL=http://%s\n", standardapp.Server.DSN(database), standardapp.Secret, own[0]),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	caddy := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "caddy"), args...)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + dir, "HOME=" + dir}
		return cmd
	}
	says := func(text string, args ...string) {
		t.Helper()
		if out, err := caddy(args...).CombinedOutput(); err != nil || !strings.Contains(string(out), text) {
			t.Errorf("caddy %s: %v, want %q: %s", strings.Join(args, " "), err, text, out)
		}
	}
	says("v2.", "version")
	says("http.handlers.stale_session\n", "list-modules")
	says("http.handlers.stale_session.directories.redis\n", "list-modules")
	says("Valid configuration", "validate", "--envfile", ".env")

	var log bytes.Buffer
	running := caddy("run", "--envfile", ".env")
	running.Stdout, running.Stderr = &log, &log
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = running.Process.Kill() // it has ended if the test is over
		_ = running.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	base := "http://" + own[0]
	eventually.Holds(t, "Caddy answers", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := caddytest.Client.Do(request)
		if err != nil {
			return false
		}
		return response.Body.Close() == nil
	})
	gone := standardapp.Session(t, "gone")
	eventually.Holds(t, "somebody who is gone is refused", func() bool { return caddytest.Ask(t, base+"/admin", gone) == http.StatusUnauthorized })
	if got := caddytest.Ask(t, base+"/admin", standardapp.Session(t, "live")); got != http.StatusOK {
		t.Errorf("a live session is answered %d", got)
	}
	says("users are looked up in", "stale-session", "doctor", "--envfile", ".env")
	version := `"version": "`
	if *archive != "" {
		version += "v" // as the tag; there is none without git
	}
	says(version, "stale-session", "status", "--address", own[1])
}
