package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestRollingBackTakesAReload with the option as docs/operations.md has it: the
// variable is that of who reloads.
func TestRollingBackTakesAReload(t *testing.T) {
	caddy := program(t)
	standardapp.NewDatabase(t)
	const option = "	mode {$STALE_SESSION_MODE:enforce}"
	if page := read(t, "../../docs/operations.md"); !strings.Contains(page, "stale_session @guarded {\n"+option+"\n}") {
		t.Error("docs/operations.md has another option")
	}
	if err := os.Unsetenv("STALE_SESSION_MODE"); err != nil { // newDatabase has it set back
		t.Fatal(err)
	}
	o := caddytest.NewOperator(t)
	log, options := caddytest.NewLog(t)
	config := strings.Replace(o.Config("stale_session {", option, "}", caddytest.NewApp(t).Proxy()), "{\n", strings.TrimSuffix(options[:strings.Index(options, "admin off")], "\t"), 1)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	caddytest.Start(t, config)
	stale := standardapp.Session(t, "deleted")
	for _, c := range []struct {
		env, mode string
		status    int
		prints    string // by the command
		logs      string // in Caddy's log
	}{
		{"", "enforce", 401, "", ""},
		{"STALE_SESSION_MODE=observe", "observe", 200, "the next reload without it undoes this", "mode observe: stale sessions are logged"},
		{"STALE_SESSION_MODE=off", "off", 200, "write `mode off` into the Caddyfile", "mode off: sessions are not checked"},
		{"", "enforce", 401, "", "mode enforce: stale sessions are answered again"},
	} {
		cmd := exec.Command(caddy, "reload", "--config", file, "--adapter", "caddyfile", "--address", o.Address)
		if cmd.Env = os.Environ(); c.env != "" {
			cmd.Env = append(cmd.Env, c.env)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if !strings.Contains(string(out), c.prints) || strings.Contains(string(out), "STALE_SESSION_MODE") != (c.prints != "") {
			t.Errorf("%s: the command prints %s", c.mode, out)
		}
		if text := log.Text(t); !strings.Contains(text, c.logs) {
			t.Errorf("%s: %q is not logged", c.mode, c.logs)
		}
		if status := caddytest.Ask(t, caddytest.Address(t), stale); status != c.status {
			t.Errorf("%s: status %d, want %d", c.mode, status, c.status)
		}
		if text := o.Do("GET", "status", nil, nil); !strings.Contains(text, `"mode":"`+c.mode+`"`) {
			t.Errorf("the status lacks %s: %s", c.mode, text)
		}
	}
}

// TestAVariableWithoutEffectIsPointedOut reloads without the option of
// docs/operations.md: the variable is that of the process.
func TestAVariableWithoutEffectIsPointedOut(t *testing.T) {
	caddy := program(t)
	standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	config := o.Config("stale_session", caddytest.NewApp(t).Proxy())
	caddytest.Start(t, config)
	_, errs, code := in(t, without(nil, "STALE_SESSION_MODE=off"), caddy, "reload", "--config", write(t, "Caddyfile", config), "--address", o.Address)
	if code != 0 || !strings.Contains(errs, "write `mode {$STALE_SESSION_MODE:enforce}` into the Caddyfile") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if status := caddytest.Ask(t, caddytest.Address(t), standardapp.Session(t, "deleted")); status != 401 {
		t.Errorf("status %d", status)
	}
}
