package faults

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/faultproxy"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// isCaddy is the variable that makes this program Caddy.
const isCaddy = "STALE_SESSION_TEST_CADDY"

// program returns a command of Caddy with the module.
func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), isCaddy+"=yes")
	return cmd
}

// node is a Caddy in a process of its own.
type node struct {
	base string
	caddytest.Operator
}

// startNode starts a node before an app, with environment variables.
func startNode(t *testing.T, app *caddytest.App, variables []string, directives ...string) *node {
	t.Helper()
	n := &node{Operator: *caddytest.NewOperator(t)}
	n.base = "http://127.0.0.1:" + caddytest.FreePort(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	text := strings.Replace(n.Config(append(directives, app.Proxy())...), ":0 {", n.base+" {", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := program("run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(append(cmd.Env, variables...), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("a node: %s", out.String())
		}
	})
	eventually.Holds(t, "the node answers", func() bool {
		response, err := caddytest.Client.Get(n.base)
		if err != nil {
			return false
		}
		return response.Body.Close() == nil
	})
	return n
}

// TestWhatOneNodeRevokesEveryNodeRefuses lets the nodes of a fleet revoke in
// turns, and users be deleted, and asks every node. In the middle, a node is cut
// off from what the nodes share.
func TestWhatOneNodeRevokesEveryNodeRefuses(t *testing.T) {
	const nodes, trials = 4, 24
	redis, err := redistest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Close() })
	for name, share := range map[string]struct {
		address  string // of what is shared, for the proxy
		variable func(address, database string) string
		options  []string
	}{
		"through Postgres, whose address each writes in another way": {standardapp.Server.Address(), func(address, database string) string {
			return "DATABASE_URL=postgres://postgres@" + address + "/" + database + "?sslmode=disable"
		}, nil},
		"through Redis": {
			redis.Address(), func(address, _ string) string { return "REDIS_URL=redis://" + address },
			[]string{"	revocations {", "		redis {env.REDIS_URL}", "	}"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			standardapp.Execute(t, database, fmt.Sprintf(`insert into "User" select 'p' || g from generate_series(0, %d) g`, trials))
			if out, err := program("stale-session", "install").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			app := caddytest.NewApp(t)
			cut := faultproxy.New(t, share.address)
			addresses, pooler, err := standardapp.Server.Addresses(t.Context(), database)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = pooler.Close() })
			fleet := make([]*node, nodes)
			for i := range fleet {
				variables := []string{"DATABASE_URL=" + addresses[(i+1)%nodes]} // the URL is the last one's, with another address
				if i == nodes-1 {
					variables = append(variables, share.variable(cut.Address, database))
				} else if len(share.options) > 0 {
					variables = append(variables, share.variable(share.address, database))
				}
				fleet[i] = startNode(t, app, variables, append(append([]string{"stale_session {"}, share.options...), "}")...)
			}
			for trial := range trials {
				subject := fmt.Sprintf("p%d", trial)
				session := standardapp.TokenOf(t, subject, time.Minute)
				for i, n := range fleet {
					if status := caddytest.Ask(t, n.base, session); status != http.StatusOK {
						t.Fatalf("node %d, before trial %d: status %d", i, trial, status)
					}
				}
				switch trial {
				case trials / 3:
					cut.Refuse()
				case trials / 2:
					cut.Listen()
				}
				if trial%3 == 2 {
					standardapp.Execute(t, database, fmt.Sprintf(`delete from "User" where id = '%s'`, subject))
				} else if text := fleet[trial%(nodes-1)].Do("POST", "revoke", caddytest.Object{"subject": subject, "force": true}, nil); !strings.Contains(text, subject) {
					t.Fatal(text)
				}
				for i, n := range fleet {
					if i == nodes-1 && trial >= trials/3 && trial < trials/2 {
						continue // asked below, once it is back
					}
					eventually.Holds(t, fmt.Sprintf("node %d refuses after trial %d", i, trial), func() bool { return caddytest.Ask(t, n.base, session) == http.StatusUnauthorized })
				}
			}
			for trial := range trials {
				session := standardapp.TokenOf(t, fmt.Sprintf("p%d", trial), time.Minute)
				for i, n := range fleet {
					eventually.Holds(t, fmt.Sprintf("node %d refuses what trial %d ended", i, trial), func() bool { return caddytest.Ask(t, n.base, session) == http.StatusUnauthorized })
				}
			}
			if status := caddytest.Ask(t, fleet[3].base, standardapp.Session(t, "live")); status != http.StatusOK {
				t.Errorf("a live session: status %d", status)
			}
		})
	}
}

func TestUsersInRedis(t *testing.T) {
	standardapp.Environment(t, "")
	redis, err := redistest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Close() })
	set := func(words ...string) {
		t.Helper()
		if answer, err := redis.Do(t.Context(), words...); err != nil || strings.HasPrefix(answer, "-") {
			t.Fatal(answer, err)
		}
	}
	set("SET", "user:cached", `{"id":"cached"}`)
	t.Setenv("REDIS_URL", redis.URL())
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, o.Config("stale_session {", "	directory redis", "}", caddytest.NewApp(t).Proxy()))
	must := func(what string, wants map[string]int) {
		t.Helper()
		for subject, want := range wants {
			eventually.Holds(t, fmt.Sprintf("%s: %s gets %d", what, subject, want), func() bool { return caddytest.Ask(t, base, standardapp.Session(t, subject)) == want })
		}
	}
	must("Redis has the users", map[string]int{"cached": 200, "nobody": 401})
	var status struct {
		Databases []struct{ Name, Health string }
	}
	o.Do("GET", "status", nil, &status)
	if len(status.Databases) != 1 || status.Databases[0].Name != "redis at "+redis.Address() || status.Databases[0].Health != "ok" {
		t.Errorf("the status: %+v", status)
	}
	if err := redis.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "Redis ends no session while it is away", func() bool { return caddytest.Ask(t, base, standardapp.Session(t, "nobody")) == http.StatusOK })
	for range 10 {
		if status := caddytest.Ask(t, base, standardapp.Session(t, "nobody")); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	if err := redis.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	set("SET", "user:cached", `{"id":"cached"}`)
	must("Redis alone, and back", map[string]int{"cached": 200, "nobody": 401})
}

func TestAReloadChangesTheOptionsOfADirectory(t *testing.T) {
	standardapp.Execute(t, standardapp.NewDatabase(t), `alter table "User" add banned boolean, add gone boolean`, `insert into "User" values ('banned', true, false)`)
	app := caddytest.NewApp(t).Proxy()
	for _, step := range []struct {
		column string // which bans
		status int
	}{{"gone", http.StatusOK}, {"banned", http.StatusUnauthorized}} {
		base := caddytest.Start(t, caddytest.Site("stale_session {", "	directory postgres {", "		users {", "			disabled "+step.column, "		}", "	}", "}", app))
		eventually.Holds(t, "the column "+step.column+" counts", func() bool { return caddytest.Ask(t, base, standardapp.Session(t, "banned")) == step.status })
	}
}

func TestAReloadKeepsWhatRedisSaid(t *testing.T) {
	standardapp.Environment(t, "")
	redis, err := redistest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Close() })
	t.Setenv("REDIS_URL", redis.URL())
	site := []string{"stale_session {", "	directory redis", "}", caddytest.NewApp(t).Proxy()}
	base := caddytest.Start(t, caddytest.Site(site...))
	if status := caddytest.Ask(t, base, standardapp.Session(t, "nobody")); status != http.StatusUnauthorized {
		t.Fatalf("status %d", status)
	}
	clients := func() int {
		text, err := redis.Do(t.Context(), "CLIENT", "LIST", "TYPE", "normal")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(text, "name=caddy-stale-session")
	}
	before := clients()
	for range 3 {
		base = caddytest.Start(t, caddytest.Site(append([]string{"header X-Reloaded yes"}, site...)...))
	}
	if status := caddytest.Ask(t, base, standardapp.Session(t, "other")); status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
	if after := clients(); after != before || before == 0 {
		t.Errorf("%d connections, before %d", after, before)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "its connections are closed", func() bool { return clients() == 0 })
}
