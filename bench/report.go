package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/template"
)

//go:embed performance.md.tmpl
var performance string

var performanceTemplate = template.Must(template.New("performance.md").Parse(performance))

// report is what docs/performance.md is made of.
type report struct {
	Date                                                string
	Versions                                            versions
	People, Few, ColdConnections, Sessions, Connections int
	Groups                                              map[string]result
	Batching                                            *result
	Writers, Attack                                     string // tables
	Noticing                                            *noticing
	Memory                                              *memory
	Benchmarks                                          []benchmark
}

// readReport reads what was measured before and kept in a file, if any.
func readReport(file string) (report, error) {
	r := report{Groups: map[string]result{}}
	text, err := os.ReadFile(file)
	if file == "" || errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s holds no measurements: %w", file, err)
	}
	return r, nil
}

// keep writes what was measured into a file, if one is named.
func (r report) keep(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// missing returns the names of what was not measured.
func (r report) missing() (names []string) {
	measured := map[string]bool{"go": r.Benchmarks != nil, "batching": r.Batching != nil, "writers": r.Writers != "", "attack": r.Attack != "", "notice": r.Noticing != nil, "memory": r.Memory != nil}
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
