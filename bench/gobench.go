package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// benchmark is the result of a Go benchmark.
type benchmark struct {
	Name                       string // without "Benchmark"
	Nanoseconds, Bytes, Allocs float64
}

// goBenchmarks runs the Go benchmarks of the request's way through the module.
func goBenchmarks(ctx context.Context) ([]benchmark, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-tags=nobadger,nomysql,nopgx", "-run=^$", "-bench=^Benchmark(Read|Lookup|HotPath)$",
		"-benchmem", "./internal/session", "./internal/directory", "./bench")
	// A group of its own, so that its end is also that of what it has started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("the Go benchmarks: %w: %s", err, out)
	}
	return parseBenchmarks(string(out))
}

// result is a line that `go test -bench -benchmem` prints, the name without
// the number of processors.
var result = regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op\s+(\d+) B/op\s+(\d+) allocs/op$`)

// parseBenchmarks reads what `go test -bench -benchmem` prints.
func parseBenchmarks(output string) ([]benchmark, error) {
	var all []benchmark
	for _, match := range result.FindAllStringSubmatch(output, -1) {
		b := benchmark{Name: strings.ReplaceAll(match[1], "_", " ")}
		for i, number := range []*float64{&b.Nanoseconds, &b.Bytes, &b.Allocs} {
			var err error
			if *number, err = strconv.ParseFloat(match[i+2], 64); err != nil {
				return nil, fmt.Errorf("the Go benchmarks: %w", err)
			}
		}
		all = append(all, b)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the Go benchmarks printed no result: %s", output)
	}
	return all, nil
}
