package main

import (
	"strings"
	"testing"
	"time"
)

const printed = `Running 3s test @ http://127.0.0.1:1/admin
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.61ms    1.13ms  17.60ms   81.60%
    Req/Sec    10.55k   820.28    11.93k    73.33%
  Latency Distribution
     50%  998.00us
     75%    2.06ms
     90%    3.01ms
     99%    1.20s
  31539 requests in 3.00s, 4.48MB read
Requests/sec:  10502.84
Transfer/sec:      1.49MB
`

func TestWhatWrkPrints(t *testing.T) {
	m, err := parseWrk(printed)
	want := measurement{requests: 31539, rate: 10502.84, p50: 998 * time.Microsecond, p99: 1200 * time.Millisecond}
	if err != nil || m != want {
		t.Errorf("read %+v, %v", m, err)
	}
	for name, out := range map[string]string{
		"refusals":       printed + "  Non-2xx or 3xx responses: 3\n",
		"broken off":     strings.Replace(printed, "  Latency D", "  Socket errors: connect 0, read 3, write 0, timeout 0\n  Latency D", 1),
		"nothing sent":   strings.Replace(printed, "31539 requests", "0 requests", 1),
		"something else": "unable to connect",
	} {
		if _, err := parseWrk(out); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTheTimeOfAProcess(t *testing.T) {
	got, err := parseStat("12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 100")
	if err != nil || got != 2*time.Second {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseStat("12 (a) S 1"); err == nil {
		t.Error("a malformed line is taken")
	}
}

func TestThePageHoldsTheRatios(t *testing.T) {
	at := func(cpu ...int) []measurement {
		var all []measurement
		for _, c := range cpu {
			all = append(all, measurement{requests: 1, rate: 1000, cpu: time.Duration(c) * time.Microsecond, p50: time.Millisecond, p99: 2 * time.Millisecond})
		}
		return all
	}
	page, err := render([]*target{{name: "plain", measured: at(100, 200, 100)}, {name: "with", measured: at(110, 240, 130)}}, 3, load{seconds: 1, connections: 2}, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"| plain | 100.0 | 1 | 1000 | 1ms | 2ms |", "| with | 130.0 | 1.200 [1.100, 1.300] | 1000 | 1ms | 2ms |", "3 interleaved rounds of 1 seconds"} {
		if !strings.Contains(string(page), line) {
			t.Errorf("%q is not in\n%s", line, page)
		}
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("the median is %v", got)
	}
}
