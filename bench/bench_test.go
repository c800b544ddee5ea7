package main

import (
	"os"
	"path/filepath"
	"slices"
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
		"sessions that ran out":          {strings.Replace(good, `"failed":0`, `"failed":0,"missing":1`, 1), load{}, "too few sessions"},
		"no request at all":              {strings.Replace(good, "40", "0", 1), load{}, "no answer at all"},
		"a broken result":                {"{", load{}, "wrk: "},
		"wrk's own lines alone":          {"unable to connect\n", load{}, "unable to connect"},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.want, c.fails)(parseLoad([]byte(c.output))) })
	}
}

func TestTheTimeOfAProcess(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		want  stat
		fails string
	}{
		"its own and its children's":       {"12 (caddy) S 1 2 3 4 5 6 7 8 9 10 150 50 70 30 20 0", stat{12, 1, 3 * time.Second}, ""},
		"a name with blanks and brackets":  {"12 (a) b) S 7 2 3 4 5 6 7 8 9 10 1 2 0 0", stat{12, 7, 30 * time.Millisecond}, ""},
		"a line that is too short":         {"12 (a) S 1", stat{}, "too short"},
		"a field that is no number":        {"12 (a) S 1 2 3 4 5 6 7 8 9 10 x 2 0 0", stat{}, "/proc/PID/stat"},
		"a line of another kind of system": {"", stat{}, "too short"},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.want, c.fails)(parseStat([]byte(c.text))) })
	}
}

func TestTheMemoryOfAProcess(t *testing.T) {
	check(t, 2048, "")(parseResident([]byte("Name:\tcaddy\nVmHWM:\t       9 kB\nVmRSS:\t       2 kB\nThreads:\t3\n")))
	check(t, 0, "no resident memory")(parseResident([]byte("Name:\tkthreadd\n")))
}

func TestTheDescendantsOfAProcessCountAsItsOwn(t *testing.T) {
	all, err := cpuTime(os.Getppid())
	if err != nil {
		t.Fatal(err)
	}
	own, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	both, err := cpuTime(os.Getpid(), os.Getppid())
	if err != nil {
		t.Fatal(err)
	}
	if own > both || all > both {
		t.Errorf("own %v, the parent's with its own %v, both %v", own, all, both)
	}
	check(t, time.Duration(0), "has ended")(cpuTime(1 << 30))
}

func TestLookupsAreCountedBySubject(t *testing.T) {
	line := func(subjects string) string {
		return "2026-01-02 03:04:05.678 UTC [9] LOG:  execute stmtcache_1: select\n" +
			"2026-01-02 03:04:05.678 UTC [9] DETAIL:  parameters: $1 = '{" + subjects + "}'\n"
	}
	for name, c := range map[string]struct {
		log  string
		want lookups
	}{
		"each alone":               {line("cbench1") + line("cbench2"), lookups{2, 2, 2}},
		"several at a time":        {line("cbench1,cbench2,cbench3") + line("cbench4"), lookups{2, 4, 4}},
		"again":                    {line("cbench1,cbench2") + line("cbench1"), lookups{2, 3, 2}},
		"other lists":              {line("cbench1") + line("User,users") + line(""), lookups{1, 1, 1}},
		"newer servers":            {strings.ReplaceAll(line("cbench1"), "parameters", "Parameters"), lookups{1, 1, 1}},
		"a parameter that is text": {strings.NewReplacer("{", "", "}", "").Replace(line("cbench1")), lookups{}},
		"a log without lookups":    {"", lookups{}},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.want, "")(countLookups(strings.NewReader(c.log))) })
	}
}

func TestLookupsThatBelieTheClaimOfHits(t *testing.T) {
	knows := []target{{name: "plain"}, {name: "guarded", hits: true, sessions: sessions{count: 3}}}
	if err := (lookups{people: 3}).warmed(knows); err != nil {
		t.Error(err)
	}
	if err := (lookups{people: 2}).warmed(knows); err == nil || !strings.Contains(err.Error(), "guarded: of 3 people Postgres was asked for 2") {
		t.Errorf("of two people: %v", err)
	}
	if err := (lookups{Subjects: 10}).hits(100); err != nil {
		t.Error(err)
	}
	if err := (lookups{Subjects: 11}).hits(100); err == nil || !strings.Contains(err.Error(), "11 subjects in 100 requests") {
		t.Errorf("of 11 in 100: %v", err)
	}
}

func TestSessionsAreLinesOfOneLength(t *testing.T) {
	mint := func(subject string) (string, error) { return "c=" + subject, nil }
	s, err := writeSessions(filepath.Join(t.TempDir(), "sessions"), 2500, mint)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(s.file)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for n, want := range map[int]string{0: "c=" + subject(2000), 499: "c=" + subject(2499)} {
		check(t, want, "")(s.part(2000, 500).read(file, n))
	}
	uneven := func(subject string) (string, error) { return strings.TrimRight(subject, "1"), nil }
	_, err = writeSessions(filepath.Join(t.TempDir(), "sessions"), 12, uneven)
	check(t, 0, "person 1 differs in length")(0, err)
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

func TestTheTableHoldsMediansAndIsPairedByRounds(t *testing.T) {
	at := func(rate, cpu int) sample {
		return sample{
			rate: float64(rate), cpu: time.Duration(cpu) * time.Microsecond, postgres: 5 * time.Microsecond,
			p50: time.Millisecond, p99: 2500 * time.Microsecond, resident: 50 << 20,
		}
	}
	rounds := [][]sample{{at(100, 100), at(50, 110)}, {at(300, 200), at(75, 240)}, {at(200, 100), at(80, 130)}}
	names := []string{"plain", "with"}
	const plain = "| plain | 200 | 100.0 |  | 5.0 | 1.00 | 2.50 | 50 |  |  |  |\n"
	const with = "| with | 75 | 130.0 | 30.0 [10.0, 40.0] | 5.0 | 1.00 | 2.50 | 50 | 1.200 [1.100, 1.300] | 1.00 [1.00, 1.00] | 0.400 [0.250, 0.500] |\n"
	if got := table(names, rounds, []int{0, 1}); !strings.HasSuffix(got, plain+with) {
		t.Errorf("compared with the first:\n%s", got)
	}
	if got := table(names, rounds, []int{1}); strings.Contains(got, "| plain") || !strings.Contains(got, "| with | 75 | 130.0 |  |") {
		t.Errorf("compared with the second:\n%s", got)
	}
	for _, round := range rounds {
		round[0].collections = 0.0012
	}
	if got := table(names, rounds, []int{0, 1}); !strings.Contains(got, "|  |  |  | 120.0 |\n") || !strings.Contains(got, "0.500] | 0.0 |\n") {
		t.Errorf("with collections:\n%s", got)
	}
}

func TestThePageHoldsTheGroups(t *testing.T) {
	page, err := report{
		Date: "2026-01-02", Versions: versions{Caddy: "v2.11.9", Go: "1.26", Postgres: "15", Wrk: "4.1", Cores: 2},
		Connections: 16, People: people, Few: few,
		Groups:     map[string]result{"hot": {Rounds: 3, Seconds: 4, Tables: []string{"| hot |\n"}, Hits: 7000, Lookups: lookups{Statements: 40, Subjects: 1000}}},
		Benchmarks: []benchmark{{"Read/v4", 6900.4, 592, 13}, {"Cost/15 KB of names/good", 100, 50, 10}, {"Cost/15 KB of names/bad", 250, 100, 14}},
	}.render()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2026-01-02", "Caddy v2.11.9", "with 16 connections", "3 rounds of 4 s", "| hot |\n",
		"7000 requests on the guarded route led to 40 lookups of 1000 subjects", "| Read/v4 | 6900 | 592 | 13 |\n", "| 15 KB of names | 250 | 100 | 2.5 | 2.0 | 1.4 |\n",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("%q is not in\n%s", want, page)
		}
	}
}

func TestWhatOthersAddIsComparedWithABound(t *testing.T) {
	at := func(micros ...int) (round []sample) {
		for _, n := range micros {
			round = append(round, sample{cpu: time.Duration(n) * time.Microsecond})
		}
		return round
	}
	names := []string{"plain", "theirs", "weighted", "ours"}
	for want, rounds := range map[string][][]sample{
		"theirs adds 200.0 µs, `stale_session` 1.0 µs [-2.0, 4.0] at equal collection: 25 times as much at least.": {
			at(100, 300, 90, 91), at(100, 200, 90, 88), at(100, 400, 90, 94),
		},
		"theirs adds 150.0 µs, `stale_session` -2.0 µs [-4.0, 0.0] at equal collection: no measurable cost.": {
			at(100, 300, 90, 90), at(100, 200, 90, 86),
		},
	} {
		if got := addition(names, rounds, [2]int{1, 0}, [2]int{3, 2}); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestThePageIsWrittenOnceAllGroupsAreMeasured(t *testing.T) {
	r := report{Groups: map[string]result{}}
	for _, name := range groupNames() {
		if missing := r.missing(); !slices.Contains(missing, name) {
			t.Errorf("%s is not among the missing %q", name, missing)
		}
		switch name {
		case "go":
			r.Benchmarks = []benchmark{{"Read/v4", 1, 2, 3}}
		case "batching":
			r.Batching = new(result)
		case "writers":
			r.Writers = "table"
		case "notice":
			r.Noticing = new(noticing)
		default:
			r.Groups[name] = result{Rounds: 7, Tables: []string{name}}
		}
	}
	if missing := r.missing(); len(missing) > 0 {
		t.Errorf("%q are missing", missing)
	}
	if _, err := r.render(); err != nil {
		t.Error(err)
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

func TestTheIntervalOfAMedian(t *testing.T) {
	values := func(n int) (all []float64) {
		for i := n; i > 0; i-- {
			all = append(all, float64(i))
		}
		return all
	}
	for n, want := range map[int][2]float64{1: {1, 1}, 5: {1, 5}, 6: {1, 6}, 8: {1, 8}, 9: {2, 8}, 15: {4, 12}, 25: {8, 18}} {
		if low, high := interval(values(n)); low != want[0] || high != want[1] {
			t.Errorf("of %d: [%v, %v], want %v", n, low, high, want)
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
