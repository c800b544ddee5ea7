package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
)

//go:embed load.lua
var loadScript []byte

// perSecond is how many sessions there are for each second if none may be used
// twice.
const perSecond = 50_000

// load is the result of a run of wrk. Times are in microseconds.
type load struct {
	Requests int     `json:"requests"`
	Duration float64 `json:"duration"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Wrong    int     `json:"wrong"`   // answers other than the app's
	Failed   int     `json:"failed"`  // requests without an answer
	Missing  int     `json:"missing"` // requests for which there was no session left
}

// load sends requests to a URL for some seconds, with random sessions or with
// each one once, in order.
func (b *bed) load(ctx context.Context, url string, s sessions, random bool, connections, seconds int) (load, error) {
	var out bytes.Buffer
	wrk, err := start(ctx, func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "wrk", "--threads", "1", "--connections", strconv.Itoa(connections),
			"--duration", strconv.Itoa(seconds)+"s", "--timeout", "10s", "--script", filepath.Join(b.dir, "load.lua"), url, "--",
			s.file, strconv.Itoa(s.length), strconv.Itoa(s.first), strconv.Itoa(s.count), strconv.FormatBool(random))
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd
	})
	if err != nil {
		return load{}, err
	}
	defer wrk.cancel()
	if err := wrk.Wait(); err != nil {
		return load{}, fmt.Errorf("wrk: %w: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	return parseLoad(out.Bytes())
}

// parseLoad parses the output of load.lua. It fails if any response was not the
// app's.
func parseLoad(output []byte) (load, error) {
	for line := range bytes.Lines(output) {
		if !bytes.HasPrefix(line, []byte("{")) {
			continue
		}
		var l load
		if err := json.Unmarshal(line, &l); err != nil {
			return load{}, fmt.Errorf("wrk: %w", err)
		}
		switch {
		case l.Wrong > 0 || l.Failed > 0:
			return load{}, fmt.Errorf("of %d requests %d got another answer than the app's, and %d none", l.Requests, l.Wrong, l.Failed)
		case l.Requests == 0 || l.Duration <= 0:
			return load{}, errors.New("wrk got no answer at all")
		case l.Missing > 0:
			return load{}, fmt.Errorf("there were too few sessions for %d requests", l.Requests)
		}
		return l, nil
	}
	return load{}, fmt.Errorf("wrk printed no result: %s", bytes.TrimSpace(output))
}
