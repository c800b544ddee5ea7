package tools

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a directory with all programs that tools/setup finds in PATH.
type machine struct {
	t    *testing.T
	path string
}

// newMachine returns a machine with what every system has. Its user is not root.
func newMachine(t *testing.T) machine {
	m := machine{t, t.TempDir()}
	for _, name := range []string{"bash", "dirname", "env", "grep", "uname"} {
		program, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(program, filepath.Join(m.path, name)); err != nil {
			t.Fatal(err)
		}
	}
	m.add("id", "echo 1000")
	return m
}

// add adds a program that runs a line of bash.
func (m machine) add(name, line string) {
	m.t.Helper()
	_ = os.Remove(filepath.Join(m.path, name)) // a program that every system has
	if err := os.WriteFile(filepath.Join(m.path, name), []byte("#!/usr/bin/env bash\n"+line+"\n"), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// setup runs tools/setup, and returns what it prints and whether it succeeds.
func (m machine) setup() (string, bool) {
	m.t.Helper()
	cmd := exec.Command("./setup")
	cmd.Env = []string{"PATH=" + m.path}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return string(out), err == nil
}

func TestSetupPrintsTheCommandThatInstalls(t *testing.T) {
	for name, c := range map[string]struct{ manager, system, says string }{
		"Debian":         {"apt-get", "Linux", "Install with: sudo apt-get update && sudo apt-get install -y --no-install-recommends "},
		"Fedora":         {"dnf", "Linux", "Install with: sudo dnf install -y "},
		"macOS":          {"brew", "Darwin", "Install with: brew install "},
		"another system": {"", "Plan9", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.add("uname", "echo "+c.system)
			m.add("sudo", "exit 1")
			if c.manager != "" {
				m.add(c.manager, "echo It installs by itself.")
			}
			said, ok := m.setup()
			if ok || strings.Contains(said, "by itself") {
				t.Errorf("it succeeds or installs: %s", said)
			}
			missing, command, _ := strings.Cut(said, "\n")
			if !strings.HasPrefix(missing, "Missing: ") || !strings.Contains(missing, "promtool, jq, curl") {
				t.Errorf("it says that these are missing: %s", missing)
			}
			if !strings.HasPrefix(command, c.says) || c.manager != "" && !strings.Contains(command, "jq") || c.manager == "" && command != "" {
				t.Errorf("it says to run %s", command)
			}
		})
	}
}

func TestSetupInstallsByApt(t *testing.T) {
	m := newMachine(t)
	m.add("apt-get", "echo This runs without sudo.")
	m.add("sudo", `[ "$2" = true ] || echo "As root: $*"`)
	said, ok := m.setup()
	if ok {
		t.Error("it succeeds, though nothing was installed")
	}
	update, install := strings.Index(said, "As root: -n apt-get update"), strings.Index(said, "apt-get install -y")
	if update < 0 || install < update || !strings.Contains(said[install:], " prometheus jq curl") || strings.Contains(said, "without sudo") {
		t.Errorf("it runs other commands: %s", said)
	}
	if !strings.Contains(said, "Missing: ") {
		t.Errorf("it does not look again: %s", said)
	}
}

func TestSetupIsSilentWhenNothingIsMissing(t *testing.T) {
	m := newMachine(t)
	for _, name := range []string{"postgres", "redis-server", "node", "npm", "pgbouncer", "chromium", "promtool", "jq", "curl", "script", "cc"} {
		m.add(name, "")
	}
	if said, ok := m.setup(); !ok || said != "" {
		t.Errorf("success %v, it says %s", ok, said)
	}
}
