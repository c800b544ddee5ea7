package integration

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

func init() { caddy.RegisterModule(collector{}) }

// collector is a handler of Caddy's events that keeps them.
type collector struct{}

var collected struct {
	sync.Mutex
	events []caddy.Event
	gate   chan struct{} // that Handle waits for, nil for nothing
}

func (collector) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.collect", New: func() caddy.Module { return new(collector) }}
}

func (*collector) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*collector) Handle(_ context.Context, e caddy.Event) error {
	collected.Lock()
	gate := collected.gate
	collected.events = append(collected.events, e)
	e.Data["collected"] = true // which others must not see
	collected.Unlock()
	if e.Data["subject"] == "a fault" {
		panic("a handler has a fault")
	}
	if gate != nil {
		<-gate
	}
	return nil
}

// named returns the collected events of a name.
func named(name string) []caddy.Event {
	collected.Lock()
	defer collected.Unlock()
	var all []caddy.Event
	for _, e := range collected.events {
		if e.Name() == name {
			all = append(all, e)
		}
	}
	return all
}

// collecting is a configuration whose events are collected.
func collecting(t *testing.T, o *caddytest.Operator, directives ...string) string {
	t.Helper()
	t.Cleanup(func() {
		collected.Lock()
		defer collected.Unlock()
		collected.events = nil
	})
	var on strings.Builder
	for _, name := range []string{"detected", "database_reset", "database_unreachable", "database_recovered", "revoked", "restored", "flushed"} {
		on.WriteString("\t\ton stale_session." + name + " collect\n")
	}
	return strings.Replace(o.Config(directives...), "{\n", "{\n\tevents {\n"+on.String()+"\t}\n", 1)
}

func TestWhatHappensGoesToCaddysEvents(t *testing.T) {
	database := standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, collecting(t, o, "stale_session {", "	poll 20ms", "}", caddytest.NewApp(t).Proxy()))
	comes := func(name string) map[string]any {
		t.Helper()
		eventually.Holds(t, name+" comes", func() bool { return len(named("stale_session."+name)) > 0 })
		e := named("stale_session." + name)[0]
		if origin := string(e.Origin().CaddyModule().ID); origin != "http.handlers.stale_session" {
			t.Errorf("the origin of %s is %s", name, origin)
		}
		return e.Data
	}
	_ = caddytest.Ask(t, base+"/admin?token=secret", standardapp.Session(t, "deleted"))
	got := comes("detected")
	for field, value := range map[string]string{
		"reason": "user_not_found", "subject": "deleted", "method": "GET", "uri": "/admin", "client_ip": "127.0.0.1",
		"source": "database", "where": "guarded", "mode": "enforce",
	} {
		if got[field] != value {
			t.Errorf("%s is %v, want %s", field, got[field], value)
		}
	}
	_ = caddytest.Ask(t, base, standardapp.Session(t, "live"))
	eventually.Holds(t, "the database is watched", func() bool { return strings.Contains(o.Do("GET", "status", nil, nil), `"watched":true`) })
	standardapp.Execute(t, database, `truncate "User"`)
	if got := comes("database_reset"); !strings.Contains(got["database"].(string), database) {
		t.Errorf("a reset: %v", got)
	}
	standardapp.Execute(t, database, `alter table "User" rename to "Other"`)
	eventually.Holds(t, "the table is missed", func() bool {
		_ = caddytest.Ask(t, base, standardapp.Session(t, "somebody"))
		return len(named("stale_session.database_unreachable")) > 0
	})
	if got := comes("database_unreachable"); got["class"] != "schema" || got["error"] == "" {
		t.Errorf("unreachable: %v", got)
	}
	standardapp.Execute(t, database, `alter table "Other" rename to "User"`)
	eventually.Holds(t, "the table is back", func() bool {
		_ = caddytest.Ask(t, base, standardapp.Session(t, "somebody"))
		return len(named("stale_session.database_recovered")) > 0
	})
	comes("database_recovered")
	o.Do("POST", "revoke", caddytest.Object{"subject": "live", "force": true}, nil)
	if got := comes("revoked"); got["subject"] != "live" {
		t.Errorf("a revocation: %v", got)
	}
	o.Do("POST", "restore", caddytest.Object{"subject": "live"}, nil)
	comes("restored")
	o.Do("POST", "flush", nil, nil)
	comes("flushed")
	o.Do("POST", "revoke", caddytest.Object{"subject": "a fault", "force": true}, nil)
	o.Do("POST", "restore", caddytest.Object{"subject": "a fault"}, nil)
	eventually.Holds(t, "a handler that panics ends nothing", func() bool { return len(named("stale_session.restored")) > 1 })
	past, _, stop := telemetry.Follow(0)
	defer stop()
	for _, e := range past {
		if _, written := e.Details["collected"]; written {
			t.Errorf("a handler of events writes to what is told of %s elsewhere", e.Name)
		}
	}
}

// TestEventsGoToTheConfigurationThatRuns has requests go on while
// configurations come and go, of which some do not start.
func TestEventsGoToTheConfigurationThatRuns(t *testing.T) {
	database := standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	app, g := caddytest.NewApp(t), newGate()
	app.Answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			g.pass()
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	live := standardapp.Session(t, "live")
	site := collecting(t, o, "stale_session {", "poll off", "}", app.Proxy())
	base := caddytest.Start(t, site)
	held := make(chan int, 1)
	go func() { held <- caddytest.Answered(t, base+"/held", live) }()
	<-g.arrived
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		for !stop.Load() {
			telemetry.Publish("flushed", map[string]any{})
		}
	})
	for range 10 {
		if err := caddytest.Load(collecting(t, o, "header X-Reload yes", "stale_session {", "poll off", "}", app.Proxy())); err != nil {
			t.Error(err)
		}
		if err := caddytest.Load(collecting(t, o, "stale_session {", "mode maybe", "}", app.Proxy())); err == nil {
			t.Error("it loads")
		}
	}
	stop.Store(true)
	all.Wait()
	standardapp.Execute(t, database, `delete from "User"`)
	before := len(named("stale_session.detected"))
	close(g.open)
	if status := <-held; status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
	eventually.Holds(t, "the detection of the request that was overtaken comes", func() bool {
		return len(named("stale_session.detected")) > before
	})
}

// TestEventsAreFewAndMakeNobodyWait has more detections than events may be, and
// handlers that do not come to an end.
func TestEventsAreFewAndMakeNobodyWait(t *testing.T) {
	standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, collecting(t, o, "stale_session", caddytest.NewApp(t).Proxy()))
	gate := make(chan struct{})
	collected.Lock()
	collected.gate = gate
	collected.Unlock()
	t.Cleanup(func() {
		collected.Lock()
		defer collected.Unlock()
		collected.gate = nil
		close(gate)
	})
	before, cookie := figures(t), standardapp.Session(t, "deleted")
	const many = 400
	for range many {
		if status := caddytest.Ask(t, base, cookie); status != http.StatusUnauthorized {
			t.Fatalf("status %d", status)
		}
	}
	after := figures(t)
	if n := after["responses_total json"] - before["responses_total json"]; n != many {
		t.Errorf("%v are answered, want %d", n, many)
	}
	// A hundred at once, and no more than a hundred handlers that run.
	if n := len(named("stale_session.detected")); n == 0 || n > 100 {
		t.Errorf("%d events of %d detections", n, many)
	}
}

// TestTheExamplesNotifierPostsToAWebhook runs the script that the example gives
// to an event handler which runs programs.
func TestTheExamplesNotifierPostsToAWebhook(t *testing.T) {
	posted := make(chan string, 1)
	webhook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		posted <- r.Method + " " + r.Header.Get("Content-Type") + " " + body.Text
	}))
	defer webhook.Close()
	t.Setenv("WEBHOOK_URL", webhook.URL)
	if out, err := exec.Command(monitoring+"notify.sh", "stale_session.detected", `user_not_found`, `"quoted" $(id) \`+"\nnext").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, want := <-posted, "POST application/json stale_session.detected: user_not_found \"quoted\" $(id) \\\nnext"; got != want {
		t.Errorf("it posts %q, want %q", got, want)
	}
	webhook.Close()
	if out, err := exec.Command(monitoring+"notify.sh", "stale_session.detected").CombinedOutput(); err == nil {
		t.Errorf("it does not fail without a webhook: %s", out)
	}
}
