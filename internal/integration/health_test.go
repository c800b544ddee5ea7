package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// probed is a Caddyfile with both probes on a site that wants a password, in front of
// an app.
func probed(app *caddytest.App, options ...string) string {
	return caddytest.Site(append(append([]string{
		"basic_auth {", "	u $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG", "}",
		"stale_session_health /healthz", "stale_session_health /checked {", "	require_checks", "}",
	}, options...), app.Proxy())...)
}

// probe returns the status of a probe, and fails the test if its answer is not the
// one that belongs to it.
func probe(t *testing.T, url string) int {
	t.Helper()
	r := caddytest.Do(t, "GET", url, nil)
	if want := map[int]string{200: "ok\n", 503: "not checking\n"}[r.StatusCode]; r.Text != want || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("status %d: %q, %v", r.StatusCode, r.Text, r.Header)
	}
	return r.StatusCode
}

func TestProbesFollowTheDatabaseOnlyWhereTheyAreToldTo(t *testing.T) {
	database := standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, probed(app, "stale_session"))
	// Nobody has asked before.
	eventually.Holds(t, "users can be looked up", func() bool { return probe(t, base+"/checked") == 200 })
	standardapp.Execute(t, database, `alter table "User" rename to elsewhere`)
	eventually.Holds(t, "users cannot be looked up", func() bool {
		caddytest.Ask(t, base, standardapp.Session(t, "live"))
		return probe(t, base+"/checked") == 503
	})
	if status := probe(t, base+"/healthz"); status != 200 {
		t.Errorf("status %d, although sessions pass unchecked meanwhile", status)
	}
	standardapp.Execute(t, database, `alter table elsewhere rename to "User"`)
	eventually.Holds(t, "users can be looked up again, without a request", func() bool { return probe(t, base+"/checked") == 200 })
	for _, request := range app.Seen() {
		if strings.HasSuffix(request.URL.Path, "ed") || strings.HasSuffix(request.URL.Path, "healthz") {
			t.Errorf("the app sees the probe of %s", request.URL.Path)
		}
	}
}

func TestAProbeOfADatabaseThatIsAway(t *testing.T) {
	standardapp.Environment(t, "postgres://app:hunter2@127.0.0.1:1/d")
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, probed(app, "stale_session {", "	on_error deny", "}"))
	for range 3 {
		if status := probe(t, base+"/checked"); status != 503 {
			t.Errorf("status %d where checks are required", status)
		}
		if status := probe(t, base+"/healthz"); status != 200 {
			t.Errorf("status %d, although every Caddy lacks the database", status)
		}
	}
	// A rollback must not take the site down.
	if err := caddytest.Load(probed(app, "stale_session {", "	mode off", "}")); err != nil {
		t.Fatal(err)
	}
	if status := probe(t, caddytest.Address(t)+"/checked"); status != 200 {
		t.Errorf("status %d with mode off", status)
	}
}

func TestAProbeOnlyReads(t *testing.T) {
	standardapp.NewDatabase(t)
	base := caddytest.Start(t, probed(caddytest.NewApp(t), "stale_session"))
	for method, status := range map[string]int{"HEAD": 200, "POST": 405, "OPTIONS": 405, "DELETE": 405} {
		r := caddytest.Do(t, method, base+"/healthz", http.Header{"Cookie": {standardapp.Session(t, "gone")}})
		if r.StatusCode != status || r.Text != "" || len(r.Cookies()) > 0 || status == 405 && r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: status %d, %q, %v", method, r.StatusCode, r.Text, r.Header)
		}
	}
}
