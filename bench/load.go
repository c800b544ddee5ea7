package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// target is what is measured: a path of a Caddy.
type target struct {
	name     string
	caddy    *caddyProcess
	path     string
	measured []measurement
}

// measurement is what one run of the load has seen.
type measurement struct {
	requests int
	rate     float64       // requests a second
	cpu      time.Duration // of Caddy, per request
	p50, p99 time.Duration
}

func (m measurement) String() string {
	return fmt.Sprintf("%8.0f requests/s  %6.1f µs CPU  p50 %s  p99 %s", m.rate, float64(m.cpu)/1e3, m.p50, m.p99)
}

// load is how the targets are asked.
type load struct {
	seconds, connections int
	script               string
}

// measure runs wrk against a target. Every answer has to be a 200.
func (l load) measure(ctx context.Context, t *target) (measurement, error) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return measurement{}, errors.New("the load comes from wrk: apt-get install wrk, or brew install wrk")
	}
	before, err := t.caddy.cpu()
	if err != nil {
		return measurement{}, err
	}
	out, err := exec.CommandContext(ctx, wrk, "-t", "1", "-c", strconv.Itoa(l.connections), "-d", strconv.Itoa(l.seconds)+"s",
		"--latency", "-s", l.script, "http://"+t.caddy.address+t.path).CombinedOutput()
	if err != nil {
		return measurement{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := t.caddy.cpu()
	if err != nil {
		return measurement{}, err
	}
	m, err := parseWrk(string(out))
	if err != nil {
		return measurement{}, err
	}
	m.cpu = (after - before) / time.Duration(m.requests)
	return m, nil
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in `)
	wrkRate     = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkLatency  = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([\d.]+)(us|ms|s)$`)
	wrkErrors   = regexp.MustCompile(`Non-2xx|Socket errors`)
)

// parseWrk reads what wrk prints. An answer that is no success is an error.
func parseWrk(out string) (measurement, error) {
	if wrkErrors.MatchString(out) {
		return measurement{}, fmt.Errorf("some answers were no success:\n%s", out)
	}
	requests, rate := wrkRequests.FindStringSubmatch(out), wrkRate.FindStringSubmatch(out)
	latencies := wrkLatency.FindAllStringSubmatch(out, -1)
	if requests == nil || rate == nil || len(latencies) != 2 {
		return measurement{}, fmt.Errorf("wrk printed something else:\n%s", out)
	}
	var m measurement
	var err error
	if m.requests, err = strconv.Atoi(requests[1]); err != nil || m.requests == 0 {
		return measurement{}, fmt.Errorf("wrk sent %s requests", requests[1])
	}
	if m.rate, err = strconv.ParseFloat(rate[1], 64); err != nil {
		return measurement{}, err
	}
	for i, into := range []*time.Duration{&m.p50, &m.p99} {
		if *into, err = time.ParseDuration(latencies[i][2] + latencies[i][3]); err != nil {
			return measurement{}, err
		}
	}
	return m, nil
}
