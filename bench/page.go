package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed performance.md.tmpl
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// render makes the page.
func render(targets []*target, rounds int, l load, at time.Time) ([]byte, error) {
	var page bytes.Buffer
	err := pageTemplate.Execute(&page, map[string]any{
		"Table": table(targets), "Rounds": rounds, "Seconds": l.seconds, "Connections": l.connections, "Sessions": sessions,
		"Date": at.Format(time.DateOnly), "Go": runtime.Version(), "CPUs": runtime.NumCPU(),
	})
	return page.Bytes(), err
}

// table compares the targets with the first one, in Markdown.
func table(targets []*target) string {
	var b strings.Builder
	b.WriteString("| what stands before the app | CPU µs/request | over plain: median [min, max] | requests/s | p50 | p99 |\n|---|---|---|---|---|---|\n")
	base := targets[0]
	for _, t := range targets {
		var ratios []float64
		for i, m := range t.measured {
			ratios = append(ratios, float64(m.cpu)/float64(base.measured[i].cpu))
		}
		over := "1"
		if t != base {
			over = fmt.Sprintf("%.3f [%.3f, %.3f]", median(ratios), slices.Min(ratios), slices.Max(ratios))
		}
		fmt.Fprintf(&b, "| %s | %.1f | %s | %.0f | %s | %s |\n", t.name,
			median(values(t, func(m measurement) float64 { return float64(m.cpu) / 1e3 })), over,
			median(values(t, func(m measurement) float64 { return m.rate })),
			time.Duration(median(values(t, func(m measurement) float64 { return float64(m.p50) }))).Round(10*time.Microsecond),
			time.Duration(median(values(t, func(m measurement) float64 { return float64(m.p99) }))).Round(10*time.Microsecond))
	}
	return b.String()
}

func values(t *target, of func(measurement) float64) []float64 {
	var all []float64
	for _, m := range t.measured {
		all = append(all, of(m))
	}
	return all
}

// median of some values, at least one.
func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
