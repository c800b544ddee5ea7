package telemetry

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

func TestASampleIsWhatWasCountedSinceTheOneBefore(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	h := &History{last: read(start)}
	for range 20 {
		count(verdict.Judgement{Verdict: verdict.Stale, Reason: verdict.UserNotFound, Source: "database"})
	}
	for range 10 { // three accounts each, in 2 to 4 ms
		Directories{}.Asked(3, 3*time.Millisecond, nil)
	}
	h.sample(read(start.Add(step)))
	h.sample(read(start.Add(2 * step)))

	all := h.Samples()
	if len(all) != 2 {
		t.Fatalf("%d samples, want 2", len(all))
	}
	if s := all[0]; s.Checks["stale"] != 20 || s.Lookups != 10 || s.Subjects != 30 || s.Seconds != step.Seconds() {
		t.Errorf("a busy sample: %+v", s)
	}
	if s := all[0]; s.Median < 0.002 || s.Median > s.P95 || s.P95 > 0.004 {
		t.Errorf("lookups of 3 ms took %v s, and %v at most", s.Median, s.P95)
	}
	quiet := h.Last()
	if quiet.Lookups != 0 || quiet.Median != 0 || len(quiet.Checks) != 0 {
		t.Errorf("a quiet sample: %+v", quiet)
	}
	if !quiet.Time.Equal(start.Add(2 * step)) {
		t.Errorf("its time is %v", quiet.Time)
	}
}

func TestAHistoryIsThatOfAnHour(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	h := &History{last: read(start)}
	for i := range samples + 10 {
		h.sample(read(start.Add(time.Duration(i+1) * step)))
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
