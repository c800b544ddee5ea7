package integration

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestASeedTellsCaddyToForget has no poll, so that nothing else can tell.
func TestASeedTellsCaddyToForget(t *testing.T) {
	caddy := program(t)
	database := standardapp.NewDatabase(t)
	address := "unix/" + filepath.Join(t.TempDir(), "admin")
	config := strings.Replace(caddytest.Site("stale_session {", "	poll off", "	cache {", "		ttl 1h", "	}", "}", caddytest.NewApp(t).Proxy()), "admin off", "admin "+address, 1)
	base := caddytest.Start(t, config)
	live := standardapp.Session(t, "live")
	if status := caddytest.Ask(t, base, live); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	standardapp.Execute(t, database, `delete from "User"`)
	if status := caddytest.Ask(t, base, live); status != http.StatusOK {
		t.Fatalf("status %d: something else has told it", status)
	}
	for _, c := range []struct {
		name, says string
		after      int
	}{
		{"with the page to sign in at", "new seed:\n/api/auth/signin\n", http.StatusUnauthorized},
		{"after a seed", "Caddy dropped 1 cached account", http.StatusUnauthorized},
		{"and again, with the absence of the user", "Caddy dropped 1 cached account", http.StatusUnauthorized},
	} {
		if said := run(t, caddy, "stale-session", "post-seed", "--address", address); !strings.Contains(said, c.says) {
			t.Errorf("%s: %s", c.name, said)
		}
		if status := caddytest.Ask(t, base, live); status != c.after {
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

// TestTheScriptsOfAnApp runs the two files that the README has people copy, as its two
// lines do, with nothing but the app's .env to tell them where Caddy is.
func TestTheScriptsOfAnApp(t *testing.T) {
	var lines struct{ Scripts map[string]string }
	if err := json.Unmarshal([]byte(read(t, "../../examples/nextjs/package.json")), &lines); err != nil {
		t.Fatal(err)
	}
	readme := read(t, "../../README.md")
	_, seed, _ := strings.Cut(lines.Scripts["db:seed"], " && ")
	clearing := lines.Scripts["session:clear"]
	for _, line := range []string{`"db:seed": "prisma db seed && ` + seed + `"`, `"session:clear": "` + clearing + `"`} {
		if !strings.Contains(readme, line) {
			t.Errorf("the README has another line than %s", line)
		}
	}
	scripts, err := filepath.Abs("../../examples/nextjs/scripts")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		scheme string
		path   string // of AUTH_URL
		option string
		signIn string
	}{
		"on another port":       {"http", "", "	mode enforce", "/api/auth/signin"},
		"behind HTTPS":          {"https", "", "	mode enforce", "/api/auth/signin"},
		"below a base path":     {"http", "/shop/api/auth", "	mode enforce", "/shop/api/auth/signin"},
		"with a page of my own": {"https", "", "	sign_in /login", "/login"},
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			dir := t.TempDir()
			if err := os.Symlink(scripts, filepath.Join(dir, "scripts")); err != nil {
				t.Fatal(err)
			}
			port, admin := caddytest.FreePort(t), caddytest.FreePort(t)
			site := c.scheme + "://localhost:" + port
			t.Setenv("AUTH_URL", site+c.path)
			config := fmt.Sprintf("{\n\tadmin 127.0.0.1:%s\n\tpersist_config off\n\tskip_install_trust\n\tstorage file_system %s\n\tauto_https disable_redirects\n}\n%s {\n\t%s\n}\n",
				admin, filepath.Join(dir, "storage"), site, strings.Join([]string{"stale_session {", c.option, "	poll off", "	cache {", "		ttl 1h", "	}", "}", "respond ok"}, "\n\t"))
			if c.scheme == "https" {
				config = strings.Replace(config, "\tstale_session {", "\ttls internal\n\tstale_session {", 1)
			}
			if err := caddytest.Load(config); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := caddy.Stop(); err != nil {
					t.Error(err)
				}
			})
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
			t.Cleanup(client.CloseIdleConnections)
			judged := func(cookie string) int {
				t.Helper()
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site+"/", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Cookie", cookie)
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				return response.StatusCode
			}
			env := fmt.Sprintf("AUTH_URL=%s\nCADDY_ADMIN=localhost:%s\n", site+c.path, admin)
			if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(env), 0o600); err != nil {
				t.Fatal(err)
			}
			script := func(line string) string {
				t.Helper()
				cmd := exec.Command("sh", "-c", line)
				cmd.Dir, cmd.Env = dir, without([]string{"AUTH_URL", "NEXTAUTH_URL", "APP_URL", "CADDY_ADMIN"})
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v: %s", line, err, out)
				}
				return string(out)
			}
			eventually.Holds(t, "the site has a certificate", func() bool {
				response, err := client.Get(site + "/")
				if err == nil {
					response.Body.Close()
				}
				return err == nil
			})
			live := standardapp.Session(t, "live")
			if status := judged(live); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			// As `prisma migrate reset` does, as the owner.
			standardapp.Execute(t, database, `drop schema public cascade`, `create schema public`, `create table "User" (id text primary key)`, `insert into "User" values ('other')`)
			said := script(seed)
			if !strings.Contains(said, "Caddy dropped") || !strings.Contains(said, "Sign in again: "+site+c.signIn+"\n") {
				t.Errorf("post-seed says %s", said)
			}
			if status := judged(live); status != http.StatusUnauthorized {
				t.Errorf("after the reset: status %d", status)
			}
			if status := judged(standardapp.Session(t, "other")); status != http.StatusOK {
				t.Errorf("a user of the seed: status %d", status)
			}
			if said := script(clearing); said != `{"success":true,"message":"Session cleared successfully"}` {
				t.Errorf("session:clear says %s", said)
			}
		})
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
