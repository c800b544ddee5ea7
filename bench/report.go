package main

import (
	"bytes"
	_ "embed"
	"text/template"
)

//go:embed performance.md.tmpl
var performance string

var performanceTemplate = template.Must(template.New("performance.md").Parse(performance))

// report is what docs/performance.md is made of.
type report struct {
	Date                         string
	Versions                     versions
	Options                      options
	People, Few, ColdConnections int
	Groups                       map[string]result
	Batching, Writers            string // tables
	Noticing                     *noticing
	Benchmarks                   []benchmark
}

// render returns docs/performance.md.
func (r report) render() ([]byte, error) {
	var b bytes.Buffer
	err := performanceTemplate.Execute(&b, r)
	return b.Bytes(), err
}
