package integration

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
)

// TestASeedTellsCaddyToForget has no poll, so that nothing else can tell.
func TestASeedTellsCaddyToForget(t *testing.T) {
	caddy := program(t)
	database := newDatabase(t)
	address := "unix/" + filepath.Join(t.TempDir(), "admin")
	config := strings.Replace(caddytest.Site("stale_session {", "	poll off", "	cache {", "		ttl 1h", "	}", "}", caddytest.NewApp(t).Proxy()), "admin off", "admin "+address, 1)
	base := caddytest.Start(t, config)
	live := session(t, "live")
	if status := ask(t, base, live); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	execute(t, database, `delete from "User"`)
	if status := ask(t, base, live); status != http.StatusOK {
		t.Fatalf("status %d: something else has told it", status)
	}
	for _, c := range []struct {
		name, says string
		after      int
	}{
		{"after a seed", "Caddy dropped 1 cached account", http.StatusUnauthorized},
		{"and again, with the absence of the user", "Caddy dropped 1 cached account", http.StatusUnauthorized},
	} {
		if said := run(t, caddy, "stale-session", "post-seed", "--address", address); !strings.Contains(said, c.says) {
			t.Errorf("%s: %s", c.name, said)
		}
		if status := ask(t, base, live); status != c.after {
			t.Errorf("%s: status %d", c.name, status)
		}
	}
	response, err := caddycmd.AdminAPIRequest(address, http.MethodGet, "/stale_session/flush", nil, nil)
	if err == nil {
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		t.Errorf("a GET flushes: %s", text)
	} else if !strings.Contains(err.Error(), "405") {
		t.Error(err)
	}
}

func TestASeedDoesNotFailWithoutCaddy(t *testing.T) {
	said := run(t, program(t), "stale-session", "post-seed", "--address", "unix/"+filepath.Join(t.TempDir(), "nobody"))
	if !strings.Contains(said, "Cannot reach Caddy") || !strings.Contains(said, "start Caddy") {
		t.Error(said)
	}
}

// run runs a program that is to succeed, and returns what it says.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return string(out)
}
