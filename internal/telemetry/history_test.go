package telemetry

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

func TestASampleIsWhatWasCountedSinceTheOneBefore(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	h := newHistory(start)
	for range 20 {
		count(verdict.Judgement{Verdict: verdict.Stale, Reason: verdict.UserNotFound, Source: "database"})
	}
	for range 10 { // three accounts each, in 2 to 4 ms
		Directories{}.Asked(3, 3*time.Millisecond, nil)
	}
	h.sample(start.Add(step))
	h.sample(start.Add(2 * step))

	all := h.Samples()
	if len(all) != 2 {
		t.Fatalf("%d samples, want 2", len(all))
	}
	s := all[0].Counters
	if by := s["checks_total"].By; by["verdict"]["stale"] != 20 || by["reason"]["user_not_found"] != 20 || by["source"]["database"] != 20 || len(by["verdict"]) != 1 {
		t.Errorf("checks of a busy sample: %+v", by)
	}
	lookups := s["lookup_duration_seconds"]
	if lookups.Count != 10 || s["lookup_subjects"].Sum != 30 || all[0].Seconds != step.Seconds() {
		t.Errorf("a busy sample: %+v", all[0])
	}
	if lookups.P50 < 0.002 || lookups.P50 > lookups.P95 || lookups.P95 > 0.004 {
		t.Errorf("lookups of 3 ms took %v s, and %v at most", lookups.P50, lookups.P95)
	}
	quiet := h.Last()
	if len(quiet.Counters) != 0 {
		t.Errorf("a quiet sample: %+v", quiet)
	}
	if !quiet.Time.Equal(start.Add(2 * step)) {
		t.Errorf("its time is %v", quiet.Time)
	}
}

func TestAHistoryIsThatOfAnHour(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	h := newHistory(start)
	for i := range maxSamples + 10 {
		h.sample(start.Add(time.Duration(i+1) * step))
	}
	all := h.Samples()
	if took := all[len(all)-1].Time.Sub(all[0].Time); took != time.Hour-step {
		t.Errorf("it is that of %v", took)
	}
}

func TestAHistoryEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	h := Record()
	if h.Last() != nil {
		t.Error("it has a sample at once")
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
