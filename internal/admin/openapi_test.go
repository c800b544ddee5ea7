package admin

import (
	"regexp"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

func TestTheDocumentDescribesEveryCounter(t *testing.T) {
	document, err := openAPIDocument()
	if err != nil {
		t.Fatal(err)
	}
	described := document.Components.Schemas["Counters"].(schema).Properties
	totals := telemetry.Count()
	for name, total := range totals {
		of, ok := described[name]
		if !ok || of.Description == "" {
			t.Errorf("%s is not described", name)
		}
		for label := range total.By {
			if _, ok := of.Properties["by"].Properties[label]; !ok {
				t.Errorf("the label %s of %s is not described", label, name)
			}
		}
	}
	if len(described) != len(totals) {
		t.Errorf("%d counters are described, want %d", len(described), len(totals))
	}
}

func TestTheDashboardReadsCountersOfTheList(t *testing.T) {
	totals := telemetry.Count()
	read := 0
	for name, file := range files {
		for _, found := range regexp.MustCompile(`[^/\w]counters\.(\w+)`).FindAllSubmatch(file.content, -1) {
			read++
			if _, ok := totals[string(found[1])]; !ok {
				t.Errorf("%s reads %s, which is not in the list of metrics", name, found[1])
			}
		}
	}
	if read == 0 {
		t.Error("it reads none")
	}
}
