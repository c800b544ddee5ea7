package main

import (
	"strings"
	"testing"
	"time"
)

func TestWhatTheLoadPrints(t *testing.T) {
	const good = `{"requests":40,"duration":2000000,"p50":900,"p99":1200,"wrong":0,"failed":0}`
	for name, c := range map[string]struct {
		output string
		want   load
		fails  string
	}{
		"a result after wrk's own lines": {"Running 2s test\n  1 threads\n" + good + "\n", load{Requests: 40, Duration: 2e6, P50: 900, P99: 1200}, ""},
		"another answer than the app's":  {strings.Replace(good, `"wrong":0`, `"wrong":3`, 1), load{}, "3 got another answer"},
		"requests that failed":           {strings.Replace(good, `"failed":0`, `"failed":2`, 1), load{}, "and 2 none"},
		"no request at all":              {strings.Replace(good, "40", "0", 1), load{}, "no answer at all"},
		"a broken result":                {"{", load{}, "wrk: "},
		"wrk's own lines alone":          {"unable to connect\n", load{}, "unable to connect"},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.want, c.fails)(parseLoad([]byte(c.output))) })
	}
}

func TestTheTimeOfAProcess(t *testing.T) {
	for name, c := range map[string]struct {
		stat  string
		want  time.Duration
		fails string
	}{
		"user and system time":             {"12 (caddy) S 1 2 3 4 5 6 7 8 9 10 150 50 70 80 20 0", 2 * time.Second, ""},
		"a name with blanks and brackets":  {"12 (a) b) S 1 2 3 4 5 6 7 8 9 10 1 2 0 0", 30 * time.Millisecond, ""},
		"a line that is too short":         {"12 (a) S 1", 0, "too short"},
		"a field that is no number":        {"12 (a) S 1 2 3 4 5 6 7 8 9 10 x 2 0 0", 0, "/proc/PID/stat"},
		"a line of another kind of system": {"", 0, "too short"},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.want, c.fails)(parseStat([]byte(c.stat))) })
	}
}

func TestLookupsAreCountedBySubject(t *testing.T) {
	line := func(at, subject string) string {
		return at + " LOG:  execute stmtcache_1: select\n" + at + " DETAIL:  parameters: $1 = '{" + subject + "}'\n"
	}
	for name, c := range map[string]struct {
		log   string
		want  int
		fails string
	}{
		"each once":               {line("100.000", "cbench1") + line("100.001", "cbench2"), 2, ""},
		"again after its time":    {line("100.000", "cbench1") + line("100.001", "cbench2") + line("130.001", "cbench1"), 3, ""},
		"other statements":        {line("100.000", "cbench1") + line("100.001", "cbench2") + line("100.002", "c-is-gone"), 2, ""},
		"newer servers":           {strings.ReplaceAll(line("100.000", "cbench1")+line("100.001", "cbench2"), "parameters", "Parameters"), 2, ""},
		"twice in its time":       {line("100.000", "cbench1") + line("100.001", "cbench2") + line("129.000", "cbench1"), 0, "cbench1 was asked for twice in 29.000 seconds"},
		"one that nobody asked":   {line("100.000", "cbench1"), 0, "only 1 of 2"},
		"a log without lookups":   {"", 0, "only 0 of 2"},
		"a log of another prefix": {"[7] " + line("2026-01-01", "cbench1"), 0, "only 0 of 2"},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.want, c.fails)(countLookups(c.log, 2)) })
	}
}

func TestWhatGoBenchmarksPrint(t *testing.T) {
	got, err := parseBenchmarks("cpu: x\nBenchmarkRead/no_session-2         \t 1000\t       104.8 ns/op\t      16 B/op\t       1 allocs/op\nBenchmarkLookup \t 7\t 2 ns/op\t 0 B/op\t 0 allocs/op\nPASS\n")
	want := []benchmark{{"Read/no session", 104.8, 16, 1}, {"Lookup", 2, 0, 0}}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseBenchmarks("PASS\n"); err == nil {
		t.Error("no error without a result")
	}
}

func TestThePageHoldsMediansAndRatiosOfEachRound(t *testing.T) {
	at := func(rate, cpu int) sample {
		return sample{rate: float64(rate), cpu: time.Duration(cpu) * time.Microsecond, p50: time.Millisecond, p99: 2500 * time.Microsecond}
	}
	rounds := [][]sample{{at(100, 100), at(90, 110)}, {at(300, 200), at(80, 240)}, {at(200, 100), at(70, 130)}}
	page, err := report{
		Date: "2026-01-02", Versions: versions{Caddy: "v2.11.9", Go: "1.26", Postgres: "15", Wrk: "4.1", Cores: 2},
		Options: options{Rounds: 3, Seconds: 4, Connections: 16}, Table: table([]string{"plain", "with"}, rounds),
		Checked: 7000, Lookups: 1000, People: people, Benchmarks: []benchmark{{"Read/v4", 6900.4, 592, 13}},
	}.render()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2026-01-02", "Caddy v2.11.9", "3 rounds of 4 s with 16 connections", "7000 requests on the guarded route led to 1000 lookups",
		"| plain | 200 | 100.0 | 1.00 | 2.50 | 1.000 (1.000–1.000) |\n",
		"| with | 80 | 130.0 | 1.00 | 2.50 | 1.200 (1.100–1.300) |\n",
		"| Read/v4 | 6900 | 592 | 13 |\n",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("%q is not in\n%s", want, page)
		}
	}
}

func TestTheMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("of %v: %v", c.values, got)
		}
	}
}

// check returns a function that compares a result, or an error with a text that
// it has to hold.
func check[T comparable](t *testing.T, want T, fails string) func(T, error) {
	return func(got T, err error) {
		t.Helper()
		if fails == "" && (err != nil || got != want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		if fails != "" && (err == nil || !strings.Contains(err.Error(), fails)) {
			t.Errorf("error %v; want one with %q", err, fails)
		}
	}
}
