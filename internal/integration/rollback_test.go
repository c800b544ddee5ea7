package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
)

// TestRollingBackTakesAReload with the option as docs/operations.md has it: the
// variable is that of who reloads.
func TestRollingBackTakesAReload(t *testing.T) {
	caddy := program(t)
	newDatabase(t)
	const option = "	mode {$STALE_SESSION_MODE:enforce}"
	if page := read(t, "../../docs/operations.md"); !strings.Contains(page, "stale_session @guarded {\n"+option+"\n}") {
		t.Error("docs/operations.md has another option")
	}
	if err := os.Unsetenv("STALE_SESSION_MODE"); err != nil { // newDatabase has it set back
		t.Fatal(err)
	}
	o := newOperator(t)
	config := o.config("stale_session {", option, "}", caddytest.NewApp(t).Proxy())
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	caddytest.Start(t, config)
	stale := session(t, "deleted")
	for _, c := range []struct {
		env, mode string
		status    int
	}{
		{"", "enforce", 401},
		{"STALE_SESSION_MODE=observe", "observe", 200},
		{"STALE_SESSION_MODE=off", "off", 200},
		{"", "enforce", 401},
	} {
		cmd := exec.Command(caddy, "reload", "--config", file, "--adapter", "caddyfile", "--address", o.address)
		if cmd.Env = os.Environ(); c.env != "" {
			cmd.Env = append(cmd.Env, c.env)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if status := ask(t, caddytest.Address(t), stale); status != c.status {
			t.Errorf("%s: status %d, want %d", c.mode, status, c.status)
		}
		if text := o.do("GET", "status", nil, nil); !strings.Contains(text, `"mode":"`+c.mode+`"`) {
			t.Errorf("the status lacks %s: %s", c.mode, text)
		}
	}
}
