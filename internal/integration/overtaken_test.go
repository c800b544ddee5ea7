package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// gate holds up who passes, until it is opened.
type gate struct{ arrived, open chan struct{} }

func newGate() gate { return gate{make(chan struct{}, 1), make(chan struct{})} }

func (g gate) pass() {
	g.arrived <- struct{}{}
	<-g.open
}

// TestARequestThatAReloadOvertakes has a request under way while a reload
// changes how users are looked up, so that the connections and the accounts of
// before are nobody's else: it is judged all the same.
func TestARequestThatAReloadOvertakes(t *testing.T) {
	for name, c := range map[string]struct {
		subject string
		before  func(g gate) string           // a directive before the module's
		app     func(g gate) http.HandlerFunc // nil for one that is not held up
		lookup  bool                          // the lookup is held up
		stale   bool                          // the user is deleted meanwhile
		status  int
	}{
		"in its lookup, of a user who is gone": {subject: "gone", lookup: true, status: http.StatusUnauthorized},
		"in its lookup, of a user who is not":  {subject: "live", lookup: true, status: http.StatusOK},
		"before it comes to the module, of a user who is gone": {
			subject: "gone", before: forwardAuth(t), status: http.StatusUnauthorized,
		},
		"before it comes to the module, of a user who is not": {
			subject: "live", before: forwardAuth(t), status: http.StatusOK,
		},
		"in the app, which fails at a user who is deleted": {
			subject: "live", app: failing, stale: true, status: http.StatusUnauthorized,
		},
		"in the app, which fails at a user who is not": {
			subject: "live", app: failing, status: http.StatusInternalServerError,
		},
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			app, g := caddytest.NewApp(t), newGate()
			if c.app != nil {
				app.Answer(c.app(g))
			}
			directives := func(timeout string) []string {
				all := []string{"route {"}
				if c.before != nil {
					all = append(all, c.before(g))
				}
				return append(all, "stale_session {", "poll off", "timeout "+timeout, "}", app.Proxy(), "}")
			}
			base := caddytest.Start(t, caddytest.Site(directives("20s")...))
			open := func() { close(g.open) }
			if c.lookup {
				open = lockUsers(t, database)
			}
			status := make(chan int, 1)
			go func() { status <- caddytest.Answered(t, base, standardapp.Session(t, c.subject)) }()
			if c.lookup {
				eventually.Holds(t, "the lookup waits", func() bool {
					return len(standardapp.PIDs(t, `select pid from pg_stat_activity where datname = $1 and wait_event_type = 'Lock'`, database)) > 0
				})
			} else {
				<-g.arrived
			}
			if err := caddytest.Load(caddytest.Site(directives("21s")...)); err != nil {
				t.Fatal(err)
			}
			if c.stale {
				standardapp.Execute(t, database, `delete from "User"`)
			}
			open()
			if got := <-status; got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			if err := caddy.Stop(); err != nil {
				t.Error(err)
			}
			eventually.Holds(t, "all connections are closed", func() bool { return len(standardapp.Backends(t, database)) == 0 })
		})
	}
}

// lockUsers locks the users table until it is unlocked.
func lockUsers(t *testing.T, database string) (unlock func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), standardapp.Server.DSN(database))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `begin; lock table "User"`); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// forwardAuth has another service asked first, which is held up.
func forwardAuth(t *testing.T) func(gate) string {
	return func(g gate) string {
		service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { g.pass() }))
		t.Cleanup(service.Close)
		return "forward_auth " + service.URL + " {\nuri /\n}"
	}
}

// failing is an app that fails, after it was held up.
func failing(g gate) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		g.pass()
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// TestAStreamKeepsNoConnectionOfAFormerConfiguration has the app answer for as
// long as it likes.
func TestAStreamKeepsNoConnectionOfAFormerConfiguration(t *testing.T) {
	database := standardapp.NewDatabase(t)
	app, g := caddytest.NewApp(t), newGate()
	app.Answer(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		g.pass()
	})
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Cookie", standardapp.Session(t, "live"))
	response, err := caddytest.Client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	<-g.arrived
	if len(standardapp.Backends(t, database)) == 0 {
		t.Fatal("no connection")
	}
	if err := caddytest.Load(caddytest.Site(app.Proxy())); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "all connections are closed", func() bool { return len(standardapp.Backends(t, database)) == 0 })
	close(g.open)
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
}

// TestASlowLogoutKeepsNoConnectionOfAFormerConfiguration sends logout messages whose
// bodies do not arrive, over reloads that each open other connections.
func TestASlowLogoutKeepsNoConnectionOfAFormerConfiguration(t *testing.T) {
	database := standardapp.NewDatabase(t)
	keys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(keys, []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	app := caddytest.NewApp(t)
	site := func(size int) string {
		return caddytest.Site("stale_session {", "	cache {", fmt.Sprintf("		size %d", size), "	}",
			"	backchannel_logout {", "		issuer https://id.example", "		audience app", "		jwks "+keys, "	}", "}", app.Proxy())
	}
	base := caddytest.Start(t, site(1000))
	for size := range 3 {
		if status := caddytest.Ask(t, base, standardapp.Session(t, "live")); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /api/auth/backchannel-logout HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") { // the body is waited for
			t.Fatalf("%q, %v", line, err)
		}
		if err := caddytest.Load(site(2000 + size)); err != nil {
			t.Fatal(err)
		}
		base = caddytest.Address(t)
	}
	if status := caddytest.Ask(t, base, standardapp.Session(t, "gone")); status != http.StatusUnauthorized {
		t.Errorf("a stale session: status %d", status)
	}
	eventually.Holds(t, "only the connections of the last configuration are left", func() bool { return len(standardapp.Backends(t, database)) <= 3 })
}
