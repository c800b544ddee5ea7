package main

import (
	"bytes"
	_ "embed"
	"text/template"
)

//go:embed performance.md.tmpl
var performance string

var performanceTemplate = template.Must(template.New("performance.md").Parse(performance))

// report is the data of docs/performance.md.
type report struct {
	Date                                                string
	Versions                                            versions
	People, Few, ColdConnections, Sessions, Connections int
	Groups                                              map[string]result
	Batching                                            *result
	Writers, Attack                                     string // tables
	Noticing                                            *noticing
	Benchmarks                                          []benchmark
}

// missing returns the names of what was not measured.
func (r report) missing() (names []string) {
	measured := map[string]bool{"go": r.Benchmarks != nil, "batching": r.Batching != nil, "writers": r.Writers != "", "attack": r.Attack != "", "notice": r.Noticing != nil}
	for name := range r.Groups {
		measured[name] = true
	}
	for _, name := range groupNames() {
		if !measured[name] {
			names = append(names, name)
		}
	}
	return names
}

// render returns docs/performance.md.
func (r report) render() ([]byte, error) {
	var b bytes.Buffer
	err := performanceTemplate.Execute(&b, r)
	return b.Bytes(), err
}
