package integration

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/goleak"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// dashboards is a Caddyfile with a dashboard to look at and one to act with.
func dashboards(o *caddytest.Operator) string {
	return o.Config(
		"route /sessions/* {", "stale_session_dashboard", "}",
		"handle_path /operate* {", "stale_session_dashboard {", "actions", "}", "}",
		"stale_session /app", "respond ok",
	)
}

func TestTheDashboardIsServedAtAnyPath(t *testing.T) {
	standardapp.NewDatabase(t)
	base := caddytest.Start(t, dashboards(caddytest.NewOperator(t)))
	for _, c := range []struct {
		method, path string
		status       int
		header       string // a field
		value        string
		text         string
	}{
		{"GET", "/sessions/", 200, "Content-Type", "text/html; charset=utf-8", "<title>"},
		{"GET", "/operate/", 200, "Content-Type", "text/html; charset=utf-8", "<title>"},
		{"GET", "/operate", 308, "Location", "./operate/", ""},
		{"GET", "/sessions/main.js", 200, "Content-Type", "text/javascript; charset=utf-8", "import"},
		{"GET", "/operate/style.css", 200, "Content-Type", "text/css; charset=utf-8", ":root"},
		{"HEAD", "/sessions/", 200, "Content-Type", "text/html; charset=utf-8", ""},
		{"GET", "/sessions/status", 200, "Cache-Control", "no-store", `"actions":false`},
		{"GET", "/operate/status", 200, "Cache-Control", "no-store", `"actions":true`},
		{"GET", "/sessions/history", 200, "Cache-Control", "no-store", `"samples":[`},
		{"GET", "/sessions/events?status=soon", 400, "Content-Type", "application/json", "such as 2s"},
		{"GET", "/sessions/events?status=1ms", 400, "Content-Type", "application/json", "such as 2s"},
		{"GET", "/sessions/nothing", 404, "Content-Type", "application/json", `{"error":"/sessions/nothing does not exist"}`},
		{"GET", "/sessions/index.html", 404, "Content-Type", "application/json", "does not exist"},
		{"GET", "/sessions/flush", 405, "Allow", "POST", "use POST"},
		{"PUT", "/sessions/", 405, "Allow", "GET", "use GET"},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			r := caddytest.Do(t, c.method, base+c.path, nil)
			if r.StatusCode != c.status || r.Header.Get(c.header) != c.value || !strings.Contains(r.Text, c.text) {
				t.Errorf("status %d, %s %q: %s", r.StatusCode, c.header, r.Header.Get(c.header), r.Text)
			}
			if r.StatusCode == http.StatusPermanentRedirect {
				return
			}
			for field, value := range map[string]string{
				"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
			} {
				if r.Header.Get(field) != value {
					t.Errorf("%s is %q", field, r.Header.Get(field))
				}
			}
		})
	}
	if r := caddytest.Do(t, "GET", base+"/other", nil); r.Text != "ok" {
		t.Errorf("another path: %s", r.Text)
	}
}

func TestABrowserKeepsTheFilesOfTheDashboardUntilTheyChange(t *testing.T) {
	standardapp.NewDatabase(t)
	base := caddytest.Start(t, dashboards(caddytest.NewOperator(t)))
	first := caddytest.Do(t, "GET", base+"/sessions/main.js", nil)
	if first.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("Cache-Control is %q", first.Header.Get("Cache-Control"))
	}
	again := caddytest.Do(t, "GET", base+"/sessions/main.js", http.Header{"If-None-Match": {first.Header.Get("Etag")}})
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("status %d", again.StatusCode)
	}
}

func TestOnlyTheDashboardItselfActs(t *testing.T) {
	standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, dashboards(o))
	json, form := http.Header{"Content-Type": {"application/json"}}, http.Header{"Content-Type": {"text/plain"}}
	with := func(header http.Header, name, value string) http.Header {
		header = header.Clone()
		header[name] = []string{value}
		return header
	}
	for _, c := range []struct {
		name, path string
		header     http.Header
		status     int
	}{
		{"a program", "/operate/flush", json, 200},
		{"the dashboard", "/operate/flush", with(json, "Sec-Fetch-Site", "same-origin"), 200},
		{"the dashboard in an old browser", "/operate/flush", with(json, "Origin", base), 200},
		{"a page of another site", "/operate/flush", with(json, "Sec-Fetch-Site", "cross-site"), 403},
		{"a page of a neighbouring site", "/operate/flush", with(json, "Sec-Fetch-Site", "same-site"), 403},
		{"a page of another site in an old browser", "/operate/flush", with(json, "Origin", "https://evil.example"), 403},
		{"a page without an origin", "/operate/flush", with(json, "Origin", "null"), 403},
		{"a form", "/operate/flush", form, 415},
		{"nothing", "/operate/flush", nil, 415},
		{"a form of another site", "/operate/flush", with(form, "Sec-Fetch-Site", "cross-site"), 403},
		{"who may only look: flush", "/sessions/flush", json, 403},
		{"who may only look: revoke", "/sessions/revoke", json, 403},
		{"who may only look: restore", "/sessions/restore", json, 403},
		{"who may only look: check", "/sessions/check", json, 400}, // without a body
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := caddytest.Do(t, "POST", base+c.path, c.header); r.StatusCode != c.status {
				t.Errorf("status %d, want %d: %s", r.StatusCode, c.status, r.Text)
			}
		})
	}
	// Caddy's own checks of the admin endpoint do not concern a socket.
	for _, c := range []struct {
		header http.Header
		says   string
	}{
		{nil, ""},
		{http.Header{"Sec-Fetch-Site": {"same-origin"}}, ""},
		{http.Header{"Sec-Fetch-Site": {"cross-site"}}, "cross-origin request"},
	} {
		says := ""
		if response, err := caddycmd.AdminAPIRequest(o.Address, "POST", "/stale_session/flush", c.header, nil); err != nil {
			says = err.Error()
		} else {
			_ = response.Body.Close()
		}
		if (says == "") != (c.says == "") || !strings.Contains(says, c.says) {
			t.Errorf("%v: %q", c.header, says)
		}
	}
}

func TestAReloadEndsTheStreamsOfASite(t *testing.T) {
	standardapp.NewDatabase(t)
	before := goleak.IgnoreCurrent()
	config := caddytest.Site("stale_session /app", "stale_session_dashboard /sessions/*", "respond ok") // without the admin endpoint, which Stop lets be
	base := caddytest.Start(t, config)
	response, err := caddytest.Client.Get(base + "/sessions/events?status=500ms")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stream := bufio.NewReader(response.Body)
	statuses := 0
	next := func() bool {
		line, err := stream.ReadString('\n')
		if line == "event: status\n" {
			statuses++
		}
		return err == nil
	}
	for statuses < 2 {
		if !next() {
			t.Fatalf("the stream ends after %d statuses", statuses)
		}
	}
	if err := caddytest.Load(strings.Replace(config, "respond ok", "respond again", 1)); err != nil {
		t.Fatal(err)
	}
	for next() { // until the end
	}
	caddytest.Client.CloseIdleConnections()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

func TestTheDashboardIsRegistered(t *testing.T) {
	module, err := caddy.GetModule("http.handlers.stale_session_dashboard")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := module.New().(caddyhttp.MiddlewareHandler); !ok {
		t.Error("it is no handler")
	}
}
