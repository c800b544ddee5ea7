package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// table shows the samples of the targets, by round and target, as a table in
// Markdown: medians over the rounds. The CPU time of each target is divided by
// that of the first one in the same round.
func table(names []string, rounds [][]sample) string {
	var b strings.Builder
	b.WriteString("| target | requests/s | CPU µs/request | p50 ms | p99 ms | CPU ÷ plain (min–max) |\n|---|---|---|---|---|---|\n")
	for n, name := range names {
		over := func(value func(round []sample) float64) []float64 {
			values := make([]float64, len(rounds))
			for i, round := range rounds {
				values[i] = value(round)
			}
			return values
		}
		ratios := over(func(r []sample) float64 { return float64(r[n].cpu) / float64(r[0].cpu) })
		fmt.Fprintf(&b, "| %s | %.0f | %.1f | %.2f | %.2f | %.3f (%.3f–%.3f) |\n", name,
			median(over(func(r []sample) float64 { return r[n].rate })),
			median(over(func(r []sample) float64 { return float64(r[n].cpu) / float64(time.Microsecond) })),
			median(over(func(r []sample) float64 { return float64(r[n].p50) / float64(time.Millisecond) })),
			median(over(func(r []sample) float64 { return float64(r[n].p99) / float64(time.Millisecond) })),
			median(ratios), slices.Min(ratios), slices.Max(ratios))
	}
	return b.String()
}

// median returns the median of at least one value.
func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}
