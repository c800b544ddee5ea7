package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

func TestRevokingEndsTheSessionsOfAUser(t *testing.T) {
	standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	config := o.Config("stale_session", caddytest.NewApp(t).Proxy())
	base := caddytest.Start(t, config)
	before, other := standardapp.TokenOf(t, "live", time.Minute), standardapp.TokenOf(t, "live", -2*time.Second) // the clock of the app may be a little ahead
	must := func(what string, cookie string, status int) {
		t.Helper()
		if got := caddytest.Ask(t, base, cookie); got != status {
			t.Errorf("%s: status %d, want %d", what, got, status)
		}
	}
	must("at first", before, 200)
	if text := o.Do("POST", "revoke", caddytest.Object{"subject": "live"}, nil); !strings.Contains(text, `"live"`) {
		t.Fatal(text)
	}
	must("revoked", before, 401)
	must("signed in again", other, 200)

	// Another site, so that the configuration is another one.
	if err := caddytest.Load(strings.Replace(config, "stale_session", "header X-Reload yes\n\tstale_session", 1)); err != nil {
		t.Fatal(err)
	}
	base = caddytest.Address(t)
	must("after a reload", before, 401)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := caddytest.Load(config); err != nil {
		t.Fatal(err)
	}
	base = caddytest.Address(t)
	must("after a restart", before, 401)
	if text := o.Do("GET", "status", nil, nil); !strings.Contains(text, `"revoked":[{"subject":"live"`) {
		t.Errorf("the status: %s", text)
	}

	if text := o.Do("POST", "restore", caddytest.Object{"subject": "live"}, nil); !strings.Contains(text, `"live"`) {
		t.Fatal(text)
	}
	must("restored", before, 200)
}

// Handlers of the same users can have different options of revocations.
func TestRevokingConcernsEveryHandlerOfTheUsers(t *testing.T) {
	standardapp.NewDatabase(t)
	redis, err := redistest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Close() })
	t.Setenv("REDIS_URL", redis.URL())
	o, app := caddytest.NewOperator(t), caddytest.NewApp(t).Proxy()
	base := caddytest.Start(t, o.Config(
		"handle /api/* {", "	stale_session", app, "}",
		"handle {", "	stale_session {", "		revocations {", "			redis {env.REDIS_URL}", "		}", "	}", app, "}"))
	cookie := standardapp.TokenOf(t, "live", time.Minute)
	must := func(what string, status int) {
		t.Helper()
		for _, path := range []string{"/api", ""} {
			if got := caddytest.Ask(t, base+path+"/x", cookie); got != status {
				t.Errorf("%s: %s/… gets %d, want %d", what, path, got, status)
			}
		}
	}
	must("at first", 200)
	if text := o.Do("POST", "revoke", caddytest.Object{"subject": "live"}, nil); !strings.Contains(text, `"live"`) {
		t.Fatal(text)
	}
	must("revoked", 401)
	if text := o.Do("GET", "status", nil, nil); strings.Count(text, `{"subject":"live"`) != 1 {
		t.Errorf("the status: %s", text)
	}
	if text := o.Do("POST", "restore", caddytest.Object{"subject": "live"}, nil); !strings.Contains(text, `"live"`) {
		t.Fatal(text)
	}
	must("restored", 200)
	if text := o.Do("POST", "restore", caddytest.Object{"subject": "live"}, nil); strings.Count(text, "nothing to restore") != 1 {
		t.Errorf("restored twice: %s", text)
	}
}

func TestTheAdminAPIRefusesWhatCannotBe(t *testing.T) {
	standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	other, err := standardapp.Server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTHER_URL", standardapp.Server.DSN(other))
	caddytest.Start(t, o.Config("stale_session /a*", "stale_session /b* {", "	database {env.OTHER_URL}", "}", "respond ok"))
	for _, c := range []struct {
		name, method, path string
		body               any
		says               string
	}{
		{"another path", "GET", "nothing", nil, "404"},
		{"another method", "GET", "revoke", nil, "405"},
		{"no JSON", "POST", "revoke", "text", "400"},
		{"an unknown field", "POST", "revoke", caddytest.Object{"subject": "live", "user": "x"}, "400"},
		{"no subject", "POST", "revoke", caddytest.Object{}, "400"},
		{"one of two databases", "POST", "revoke", caddytest.Object{"subject": "live"}, "set `database` to one of"},
		{"no such database", "POST", "revoke", caddytest.Object{"subject": "live", "database": "x"}, "404"},
		{"a subject that is too long", "POST", "revoke", caddytest.Object{"subject": strings.Repeat("x", 2000), "database": "database " + other + " at " + standardapp.Server.Address()}, "1 to 1024 bytes"},
		{"nothing to restore", "POST", "restore", caddytest.Object{"subject": "live", "database": "database " + other + " at " + standardapp.Server.Address()}, "nothing to restore"},
		{"no question", "POST", "check", caddytest.Object{}, "one of"},
		{"two questions", "POST", "check", caddytest.Object{"subject": "a", "token": "b"}, "one of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if text := o.Do(c.method, c.path, c.body, nil); !strings.Contains(text, c.says) {
				t.Errorf("%s does not say %q", text, c.says)
			}
		})
	}
	caddytest.Start(t, o.Config("stale_session {", "	mode off", "}", "respond ok"))
	if text := o.Do("POST", "revoke", caddytest.Object{"subject": "live"}, nil); !strings.Contains(text, "404") || !strings.Contains(text, "`mode off`") {
		t.Errorf("nobody to revoke: %s", text)
	}
}

func TestACheckTellsItsReasons(t *testing.T) {
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `alter table "User" add column disabled boolean not null default false`, `insert into "User" values ('banned', true)`)
	o := caddytest.NewOperator(t)
	caddytest.Start(t, o.Config("stale_session", "respond ok"))
	value := func(cookie string) string { _, v, _ := strings.Cut(cookie, "="); return v }
	for _, c := range []struct {
		name string
		body caddytest.Object
		want caddytest.Object
	}{
		{"a subject", caddytest.Object{"subject": "live"}, caddytest.Object{"verdict": "live", "source": "database", "account": caddytest.Object{"exists": true, "disabled": false}}},
		{"nobody", caddytest.Object{"subject": "deleted"}, caddytest.Object{"verdict": "stale", "reason": "user_not_found", "source": "database", "account": caddytest.Object{"exists": false, "disabled": false}}},
		{"a banned user", caddytest.Object{"subject": "banned"}, caddytest.Object{"verdict": "stale", "reason": "user_disabled", "source": "database", "account": caddytest.Object{"exists": true, "disabled": true}}},
		{"cookies", caddytest.Object{"cookies": "theme=dark; " + standardapp.TokenOf(t, "live", time.Hour)}, caddytest.Object{"verdict": "live", "source": "database", "account": caddytest.Object{"exists": true, "disabled": false}}},
		{"a live cookie beside a stale one", caddytest.Object{"cookies": standardapp.TokenOf(t, "live", time.Hour) + "; " + standardapp.TokenOf(t, "deleted", time.Hour)}, caddytest.Object{"verdict": "live", "source": "database", "account": caddytest.Object{"exists": true, "disabled": false}}},
		{"a token", caddytest.Object{"token": value(standardapp.TokenOf(t, "live", time.Hour))}, caddytest.Object{"verdict": "live", "source": "database", "account": caddytest.Object{"exists": true, "disabled": false}}},
		{"another app's token", caddytest.Object{"token": "abc"}, caddytest.Object{"verdict": "invalid", "failure": "undecodable"}},
		{"no session", caddytest.Object{"cookies": "theme=dark"}, caddytest.Object{"verdict": "anonymous"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got struct{ Handlers []caddytest.Object }
			text := o.Do("POST", "check", c.body, &got)
			if len(got.Handlers) != 1 {
				t.Fatal(text)
			}
			h := got.Handlers[0]
			if tokens, ok := h["tokens"].([]any); ok != (c.body["token"] != nil && c.want["failure"] == nil || c.want["verdict"] == "live" && c.body["subject"] == nil) {
				t.Errorf("tokens %v", tokens)
			} else if ok && tokens[0].(caddytest.Object)["subject"] != "live" {
				t.Errorf("tokens %v", tokens)
			}
			for _, key := range []string{"verdict", "reason", "source", "failure", "account"} {
				got, _ := json.Marshal(h[key])
				want, _ := json.Marshal(c.want[key])
				if !bytes.Equal(got, want) {
					t.Errorf("%s is %s, want %s", key, got, want)
				}
			}
			if token, ok := c.body["token"].(string); ok && strings.Contains(text, token) {
				t.Error("the token is in the answer")
			}
		})
	}
}

func TestEventsAreStreamed(t *testing.T) {
	database := standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	config := o.Config("stale_session {", "	poll 20ms", "}", "respond ok")
	base := caddytest.Start(t, config)
	follow := func(after string) *bufio.Reader {
		t.Helper()
		response, err := caddycmd.AdminAPIRequest(o.Address, "GET", "/stale_session/events", http.Header{"Last-Event-Id": {after}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return bufio.NewReader(response.Body)
	}
	// next returns the next event of a name, and its id.
	next := func(stream *bufio.Reader, name string) (id, data string) {
		t.Helper()
		var event string
		for {
			line, err := stream.ReadString('\n')
			if err != nil {
				t.Fatalf("before %s: %v", name, err)
			}
			field, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch field {
			case "id":
				id = value
			case "event":
				event = value
			case "data":
				if event == name {
					return id, value
				}
			}
		}
	}
	stream := follow("")
	for line := ""; line != ": end of past events\n"; { // that of other tests
		var err error
		if line, err = stream.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	_ = caddytest.Ask(t, base, standardapp.Session(t, "deleted"))
	id, data := next(stream, "detected")
	if !strings.Contains(data, `"reason":"user_not_found"`) || !strings.Contains(data, `"subject":"deleted"`) {
		t.Errorf("a detection: %s", data)
	}
	_ = caddytest.Ask(t, base, standardapp.Session(t, "live"))
	eventually.Holds(t, "the database is watched", func() bool { return strings.Contains(o.Do("GET", "status", nil, nil), `"watched":true`) })
	standardapp.Execute(t, database, `truncate "User"`)
	if _, data = next(stream, "database_reset"); !strings.Contains(data, database) {
		t.Errorf("a reset: %s", data)
	}
	o.Do("POST", "revoke", caddytest.Object{"subject": "live", "force": true}, nil)
	if _, data = next(stream, "revoked"); !strings.Contains(data, `"subject":"live"`) {
		t.Errorf("a revocation: %s", data)
	}

	// A reload ends the stream; who comes back gets what was missed.
	if err := caddytest.Load(strings.Replace(config, "respond ok", "respond again", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	again := follow(id)
	if first, _ := next(again, "database_reset"); first <= id {
		t.Errorf("the event %s comes again after %s", first, id)
	}
}

func TestTheStatusTellsWhatHappens(t *testing.T) {
	database := standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, o.Config("stale_session {", "	poll 20ms", "}", "respond ok"))
	_ = caddytest.Ask(t, base, standardapp.Session(t, "live"))
	var status struct {
		Handlers  []caddytest.Object
		Databases []caddytest.Object
		Counters  telemetry.Totals
	}
	eventually.Holds(t, "the database is watched", func() bool {
		o.Do("GET", "status", nil, &status)
		return len(status.Databases) == 1 && status.Databases[0]["watched"] == true
	})
	if d := status.Databases[0]; d["health"] != "ok" || d["notified"] != false || !strings.Contains(d["users"].(string), `"User"`) {
		t.Errorf("%v", d)
	}
	if len(status.Handlers) != 1 || status.Handlers[0]["mode"] != "enforce" {
		t.Errorf("%v", status.Handlers)
	}
	checks := func() float64 { return status.Counters["checks_total"].By["verdict"]["live"] }
	live := checks()
	_ = caddytest.Ask(t, base, standardapp.Session(t, "live"))
	if o.Do("GET", "status", nil, &status); checks() != live+1 {
		t.Errorf("%v checks, want %v", checks(), live+1)
	}
	standardapp.Execute(t, database, `alter table "User" rename to "Other"`)
	eventually.Holds(t, "the table is missed", func() bool {
		_ = caddytest.Ask(t, base, standardapp.Session(t, "somebody"))
		o.Do("GET", "status", nil, &status)
		return status.Databases[0]["health"] == "failing" && strings.Contains(status.Databases[0]["error"].(string), "users")
	})
	standardapp.Execute(t, database, `alter table "Other" rename to "User"`)
	eventually.Holds(t, "the table is back", func() bool {
		_ = caddytest.Ask(t, base, standardapp.Session(t, "somebody"))
		var now struct{ Databases []caddytest.Object }
		o.Do("GET", "status", nil, &now)
		return now.Databases[0]["health"] == "ok"
	})
}
