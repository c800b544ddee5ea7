package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// subcommands are those that somebody on call has.
var subcommands = []string{"check", "doctor", "flush", "install", "post-seed", "restore", "revoke", "status", "uninstall"}

// TestPeopleGetTextOnATerminal runs the command on a terminal, which script(1)
// makes.
func TestPeopleGetTextOnATerminal(t *testing.T) {
	caddy := program(t)
	standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, o.Config("stale_session", "respond ok"))
	_ = caddytest.Ask(t, base, standardapp.Session(t, "live"))
	const green, red = "\x1b[32m", "\x1b[31m"
	for _, c := range []struct {
		name, noColour string
		args           []string
		code           int
		says, never    []string
	}{
		{"status", "", []string{"status"}, 0, []string{green + "ok\x1b[0m", "checks", "users"}, []string{"{"}},
		{"status, without colour", "1", []string{"status"}, 0, []string{"ok", "checks"}, []string{"\x1b[", "{"}},
		{"status, for programs", "", []string{"status", "--json"}, 0, []string{`"health": "ok"`}, []string{"\x1b["}},
		{"a live session", "", []string{"check", "live"}, 0, []string{green + "live\x1b[0m", "account     exists"}, nil},
		{"a stale one", "", []string{"check", "deleted"}, 2, []string{red + "stale user_not_found\x1b[0m", "account     does not exist"}, nil},
		{"flush", "", []string{"flush"}, 0, []string{"accounts from the cache"}, []string{"{"}},
		{"revoke", "", []string{"revoke", "live"}, 0, []string{`The current sessions of "live" are revoked`}, []string{"{"}},
		{"doctor", "", []string{"doctor"}, 0, []string{green + "good\x1b[0m", "note"}, []string{"{"}},
		{"doctor, with a wrong token", "", []string{"doctor", "--token", "x"}, 2, []string{red + "bad \x1b[0m", "the token cannot be read"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if args[0] != "doctor" {
				args = append(slices.Clone(args), "--address", o.Address)
			}
			cmd := exec.Command("script", "--quiet", "--return", "--command", caddy+" stale-session "+strings.Join(args, " "), "/dev/null")
			cmd.Env = append(os.Environ(), "NO_COLOR="+c.noColour)
			out, _ := cmd.CombinedOutput() // its exit code tells
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, out)
			}
			for _, text := range c.says {
				if !strings.Contains(string(out), text) {
					t.Errorf("it does not say %q: %q", text, out)
				}
			}
			for _, text := range c.never {
				if strings.Contains(string(out), text) {
					t.Errorf("it says %q: %q", text, out)
				}
			}
		})
	}
}

func TestTheCommandHasManPagesAndCompletions(t *testing.T) {
	caddy, dir := program(t), t.TempDir()
	run(t, caddy, "manpage", "--directory", dir)
	for _, name := range subcommands {
		page, err := os.ReadFile(filepath.Join(dir, "caddy-stale-session-"+name+".8"))
		if err != nil {
			t.Error(err)
			continue
		}
		if text := strings.ReplaceAll(string(page), `\-`, "-"); !strings.Contains(text, "caddy stale-session "+name) && !strings.Contains(text, "caddy-stale-session-"+name) {
			t.Errorf("the page of %s: %s", name, text)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if script := run(t, caddy, "completion", shell); !strings.Contains(script, "__complete") {
			t.Errorf("no completions for %s", shell)
		}
	}
	offered := run(t, caddy, "__complete", "stale-session", "") // what all of them ask
	for _, name := range subcommands {
		if !strings.Contains(offered, "\n"+name+"\t") && !strings.HasPrefix(offered, name+"\t") {
			t.Errorf("%s is not completed: %s", name, offered)
		}
	}
	if flags := run(t, caddy, "__complete", "stale-session", "check", "--"); !strings.Contains(flags, "--token\t") || !strings.Contains(flags, "--cookie\t") {
		t.Errorf("the flags of check are not completed: %s", flags)
	}
}
