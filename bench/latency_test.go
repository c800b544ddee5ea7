package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWhatDelaysSay(t *testing.T) {
	ms := func(all ...int) (d delays) {
		for _, n := range all {
			d = append(d, time.Duration(n)*time.Millisecond)
		}
		return d
	}
	for name, c := range map[string]struct {
		delays delays
		want   string
	}{
		"all refused":  {ms(7, 1, 3, 2), "3.0 / 7.0 / 7.0"},
		"none refused": {delays{never, never}, "still served after 10s"},
		"some refused": {append(ms(2, 4), never), "4.0 / 4.0 / 4.0; 1 of 3 still served after 10s"},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.want, "")(c.delays.Say("still served", 10*time.Second), nil) })
	}
}

func TestTheSetupsKnowEachChangeAndWhatTheyAreComparedWith(t *testing.T) {
	all := setups()
	for i, s := range all {
		if len(s.library.changes) != len(changes) {
			t.Errorf("%s has %d changes of %d", s.name, len(s.library.changes), len(changes))
		}
		if base := all[s.base]; base.base != s.base || base.library.name != s.library.name || s.base > i {
			t.Errorf("%s is compared with %s", s.name, base.name)
		}
	}
}

func TestThePageOfTheLatencyHasItsTables(t *testing.T) {
	known, err := packageVersions("node")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"express", "@auth/express", "@auth/core", "better-auth"} {
		if known[name] == "" {
			t.Errorf("%s has no version", name)
		}
	}
	one := func(d time.Duration) [3]delays { return [3]delays{{d}, {d}, {d}} }
	page, err := latencyReport{
		Date: "2026-01-02", Libraries: known, Trials: 7, Costs: 9, After: 10 * time.Second, Changes: changes,
		Setups: []latencyRow{
			{Name: "alone", Bound: "its end", Requests: one(never), Streams: one(never), P50: 1.5, Base: "alone"},
			{Name: "checked", Bound: "a query", Requests: one(time.Millisecond), Streams: one(never), Queries: 1, P50: 2, Added: 0.5, Base: "alone"},
		},
	}.render()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(page, "\n")
	for _, want := range []string{
		"| | deleted | disabled | signed out everywhere |",
		"| alone | still served after 10s | still served after 10s | still served after 10s |",
		"| checked | 1.0 / 1.0 / 1.0 | 1.0 / 1.0 / 1.0 | 1.0 / 1.0 / 1.0 |",
		"| checked | still open after 10s | still open after 10s | still open after 10s |",
		"- alone: its end",
		"| alone | 0.00 | 1.50 | | |",
		"| checked | 1.00 | 2.00 | alone | 0.50 |",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is no line of\n%s", want, page)
		}
	}
}
