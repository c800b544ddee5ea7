package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
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
		args := []string{"test", "-tags=nobadger,nomysql,nopgx", "-run=^$", "-bench=^Benchmark(Open|Read|Lookup|Verdict|HotPath|Cost)$", "-benchmem"}
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

// cost compares a request that is made to cost much with a good one of its size.
type cost struct {
	Name      string
	Good, Bad benchmark
}

// costPrefix begins the names of the benchmarks that Costs compares.
const costPrefix = "Cost/"

// Costs returns the comparisons that are among the Go benchmarks.
func (r report) Costs() (all []cost) {
	goods := make(map[string]benchmark)
	for _, b := range r.Benchmarks {
		name, found := strings.CutPrefix(b.Name, costPrefix)
		if !found {
			continue
		}
		if good, found := strings.CutSuffix(name, "/good"); found {
			goods[good] = b
		} else if bad, found := strings.CutSuffix(name, "/bad"); found {
			all = append(all, cost{bad, goods[bad], b})
		}
	}
	return all
}

// Alone returns the other Go benchmarks.
func (r report) Alone() []benchmark {
	return slices.DeleteFunc(slices.Clone(r.Benchmarks), func(b benchmark) bool { return strings.HasPrefix(b.Name, costPrefix) })
}

// Time returns how many times as long the bad request takes.
func (c cost) Time() float64 { return c.Bad.Nanoseconds / c.Good.Nanoseconds }

// Memory returns how many times as many bytes it allocates.
func (c cost) Memory() float64 { return c.Bad.Bytes / c.Good.Bytes }

// Allocs returns how many times as often it allocates.
func (c cost) Allocs() float64 { return c.Bad.Allocs / c.Good.Allocs }
