package telemetry

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var writeMetrics = flag.Bool("write-metrics", false, "write the table of metrics in docs/operations.md")

const metricsDoc = "../../docs/operations.md"

// table is the list of metrics for people.
func table() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | help |\n|---|---|---|---|\n")
	for _, m := range Metrics() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", fullName(m.Name), m.Kind, strings.Join(m.Labels, ", "), m.Help)
	}
	return b.String()
}

func TestTheDocsHaveEveryMetric(t *testing.T) {
	const begin, end = "<!-- metrics -->\n", "<!-- end -->\n"
	text, err := os.ReadFile(metricsDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), begin)
	got, after, found := strings.Cut(rest, end)
	if !found {
		t.Fatalf("%s has no place for the table", metricsDoc)
	}
	if *writeMetrics {
		if err := os.WriteFile(metricsDoc, []byte(before+begin+table()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != table() {
		t.Errorf("the table of metrics in %s is not that of the list: run `go test ./internal/telemetry -run TestTheDocsHaveEveryMetric -write-metrics`", metricsDoc)
	}
}

func TestEveryMetricIsDescribedByASentence(t *testing.T) {
	names := make(map[string]bool)
	for _, m := range Metrics() {
		if names[m.Name] {
			t.Errorf("%s is in the list twice", m.Name)
		}
		names[m.Name] = true
		if !strings.HasSuffix(m.Help, ".") || strings.Contains(m.Help, "|") {
			t.Errorf("the help of %s: %q", m.Name, m.Help)
		}
	}
}

func TestTotalsHaveEveryCounterAndHistogram(t *testing.T) {
	var want []string
	for _, m := range Metrics() {
		if m.Kind != Gauge {
			want = append(want, m.Name)
		}
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(Count())); !slices.Equal(got, want) {
		t.Errorf("totals of %q, want %q", got, want)
	}
}
