package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/signals"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

func TestMetricsSurviveAReload(t *testing.T) {
	before, after := prometheus.NewPedanticRegistry(), prometheus.NewPedanticRegistry()
	if err := Register(before); err != nil {
		t.Fatal(err)
	}
	if err := Register(before); err != nil {
		t.Fatalf("a second handler of the same configuration: %v", err)
	}
	stale := verdict.Judgement{Verdict: verdict.Stale, Reason: verdict.UserNotFound, Subject: []byte("somebody"), Source: "database"}
	start := testutil.ToFloat64(checks.WithLabelValues("stale", "user_not_found", "database"))
	count(stale)
	if err := Register(after); err != nil {
		t.Fatal(err)
	}
	count(stale)
	families, err := after.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "caddy_stale_session_checks_total" {
			if got := testutil.ToFloat64(checks.WithLabelValues("stale", "user_not_found", "database")); got != start+2 {
				t.Errorf("counted %v, want %v", got, start+2)
			}
			if text := family.String(); strings.Contains(text, "somebody") {
				t.Errorf("the subject is in the metrics: %s", text)
			}
			return
		}
	}
	t.Error("the counter is not in the new registry")
}

// Anybody can send logout messages.
func TestRejectedLogoutMessagesDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	kinds := func(n int) (errs []error) {
		for i := range n {
			errs = append(errs, fmt.Errorf("error %d", i))
		}
		return errs
	}
	for name, c := range map[string]struct {
		errs  []error
		lines int
	}{
		"of one kind":     {kinds(1), 1},
		"of two":          {kinds(2), 2},
		"of all too many": {kinds(10 * maxRejections), maxRejections + 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				core, lines := observer.New(zapcore.DebugLevel)
				p, err := NewReporter(Detections{Logger: zap.New(core)}, "sub")
				if err != nil {
					t.Fatal(err)
				}
				for round := range 2 {
					for range 200 {
						for _, err := range c.errs {
							p.Signalled(signals.BackchannelLogout, "/logout", signals.Result{Err: err, Refused: true})
						}
					}
					if got, want := lines.Len(), (round+1)*c.lines; got != want {
						t.Errorf("%d lines, want %d", got, want)
					}
					time.Sleep(time.Minute)
				}
				if counted := lines.All()[c.lines].ContextMap()["requests"]; counted != int64(201) {
					t.Errorf("the first line after a minute counts %v requests", counted)
				}
			})
		})
	}
}

// TestOnlyATokenThatShouldNameAUserIsMissed has sessions that the app looks up itself, as
// most of Better Auth are, and which name nobody.
func TestOnlyATokenThatShouldNameAUserIsMissed(t *testing.T) {
	t.Parallel()
	asked, nameless, ada := session.Claims{AppAsks: true}, session.Claims{}, session.Claims{Subject: []byte("ada")}
	for name, c := range map[string]struct {
		requests [][]session.Claims
		lines    int
	}{
		"that the app asks for":                   {[][]session.Claims{{asked}}, 0},
		"that names nobody":                       {[][]session.Claims{{nameless}}, 1},
		"that names nobody, beside one asked for": {[][]session.Claims{{asked, nameless}}, 1},
		"that names nobody, after one that does":  {[][]session.Claims{{asked, ada}, {nameless}}, 0},
		"that names nobody, after one asked for":  {[][]session.Claims{{asked}, {nameless}}, 1},
	} {
		core, lines := observer.New(zapcore.DebugLevel)
		p, err := NewReporter(Detections{Logger: zap.New(core)}, "sub")
		if err != nil {
			t.Fatal(err)
		}
		for _, request := range c.requests {
			s := new(session.Session)
			for _, claims := range request {
				s.Tokens = append(s.Tokens, session.Token{Claims: claims})
			}
			p.Checked(httptest.NewRequest(http.MethodGet, "/", nil), &verdict.Check{Judgement: verdict.Judgement{Verdict: verdict.Live}, Session: s}, "guarded")
		}
		if lines.Len() != c.lines {
			t.Errorf("%s: %d lines", name, lines.Len())
		}
	}
}

func TestADetectionIsOneStructuredLine(t *testing.T) {
	core, lines := observer.New(zapcore.DebugLevel)
	d := Detections{Logger: zap.New(core), Mode: "enforce"}
	r := httptest.NewRequest("POST", "http://app.test/admin/a%0Ab?token=secret", nil)
	r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: "192.0.2.7"}))

	d.report(r, verdict.Judgement{Verdict: verdict.Stale, Reason: verdict.UserDisabled, Subject: []byte(strings.Repeat("x", 4096)), Source: "cache"}, "guarded")

	if lines.Len() != 1 {
		t.Fatalf("%d lines, want 1", lines.Len())
	}
	line := lines.All()[0]
	if line.Level != zapcore.WarnLevel || line.Message != "stale session detected" {
		t.Errorf("logged %s %q", line.Level, line.Message)
	}
	want := map[string]any{
		"reason": "user_disabled", "subject": strings.Repeat("x", maxSubject) + "…", "method": "POST", "host": "app.test",
		"uri": "/admin/a%0Ab", "client_ip": "192.0.2.7", "source": "cache", "where": "guarded", "mode": "enforce",
	}
	got := line.ContextMap()
	for field, value := range want {
		if got[field] != value {
			t.Errorf("%s is %v, want %v", field, got[field], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("fields %v, want those of %v", got, want)
	}
}

// TestADetectionKeepsLittleOfALongRequest has a path and a query that the feed would
// keep in memory.
func TestADetectionKeepsLittleOfALongRequest(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	d := Detections{Logger: zap.New(core)}
	for _, target := range []string{"/" + strings.Repeat("x", 1<<16), "/x?" + strings.Repeat("x", 1<<16)} {
		r := httptest.NewRequest("GET", "http://app.test"+target, nil)
		d.report(r, verdict.Judgement{Verdict: verdict.Stale, Reason: verdict.UserDisabled}, "guarded")
		line := logs.TakeAll()[0].ContextMap()
		uri, method := line["uri"].(string), line["method"].(string)
		if len(uri) > maxAddress+len("…") || unsafe.StringData(uri) == unsafe.StringData(r.URL.Path) || unsafe.StringData(method) == unsafe.StringData(r.Method) {
			t.Errorf("%d bytes of a path of %d are kept", len(uri), len(r.URL.Path))
		}
	}
}

func TestAWarningIsLoggedOnceAMinuteUntilItIsDismissed(t *testing.T) {
	w := newWarning()
	var logged []int64
	log := func(requests int64) { logged = append(logged, requests) }
	for range 3 {
		w.raise(log)
	}
	if len(logged) != 1 || logged[0] != 1 {
		t.Errorf("logged %v, want once, at the first", logged)
	}
	w.limit.Interval = 0 // a minute later
	w.limit.Every = 1
	w.raise(log)
	if len(logged) != 2 || logged[1] != 4 {
		t.Errorf("logged %v, want a second time, at the fourth", logged)
	}
	w.dismiss()
	w.raise(log)
	if len(logged) != 2 {
		t.Errorf("logged %v after it was dismissed", logged)
	}
}
