package telemetry

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

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

func TestADoubtIsVoicedOnceAMinuteUntilItIsSettled(t *testing.T) {
	d := newDoubt()
	var voiced []int64
	say := func(times int64) { voiced = append(voiced, times) }
	for range 3 {
		d.raise(say)
	}
	if len(voiced) != 1 || voiced[0] != 1 {
		t.Errorf("voiced %v, want once, at the first", voiced)
	}
	d.voice.Interval = 0 // a minute later
	d.voice.Every = 1
	d.raise(say)
	if len(voiced) != 2 || voiced[1] != 4 {
		t.Errorf("voiced %v, want a second time, at the fourth", voiced)
	}
	d.settle()
	d.raise(say)
	if len(voiced) != 2 {
		t.Errorf("voiced %v after it was settled", voiced)
	}
}
