package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// benchmark is the result of a Go benchmark.
type benchmark struct {
	Name                       string // without "Benchmark"
	Nanoseconds, Bytes, Allocs float64
}

// goBenchmarks runs the Go benchmarks of what a request passes in the module.
func goBenchmarks(ctx context.Context) ([]benchmark, error) {
	var all strings.Builder
	for _, tested := range []struct {
		module   string // its directory
		packages []string
	}{
		{".", []string{"./internal/session", "./internal/accounts", "./internal/postgres"}},
		{"bench", []string{"."}},
	} {
		args := []string{"test", "-tags=nobadger,nomysql,nopgx", "-run=^$", "-bench=^Benchmark(Open|Read|Lookup|Verdict|HotPath)$", "-benchmem"}
		out, err := runProgram(ctx, tested.module, "go", append(args, tested.packages...)...)
		if err != nil {
			return nil, err
		}
		all.WriteString(out)
	}
	return parseBenchmarks(all.String())
}

// printed is a line that `go test -bench -benchmem` prints, the name without
// the number of processors.
var printed = regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op\s+(\d+) B/op\s+(\d+) allocs/op$`)

// parseBenchmarks reads what `go test -bench -benchmem` prints.
func parseBenchmarks(output string) ([]benchmark, error) {
	var all []benchmark
	for _, match := range printed.FindAllStringSubmatch(output, -1) {
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
