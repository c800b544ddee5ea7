// Command licences writes docs/licences.md from the bill of materials of a
// binary, in CycloneDX JSON. With -check it fails if that file is out of date.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// read corrects the detector, which confuses texts that are nearly the same.
var read = map[string]string{
	"BSD-Source-Code": "BSD-3-Clause", // the Go project's text, without a colon
	"OFL-1.1-no-RFN":  "MIT",          // chroma: the detector finds the licence of its fonts first
}

// allowed are the licences that a binary under Apache-2.0 may contain.
var allowed = []string{"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "CC0-1.0", "MPL-2.0", "Unlicense", "Zlib"}

type sbom struct {
	Components []struct {
		Name     string
		Evidence struct {
			Licenses []struct{ License struct{ ID string } }
		}
	}
}

func main() {
	check := flag.Bool("check", false, "only check whether the file is up to date")
	flag.Parse()
	if err := run(flag.Arg(0), flag.Arg(1), *check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(from, file string, check bool) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var parts sbom
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	lines := make([]string, 0, len(parts.Components))
	for _, c := range parts.Components {
		var found []string
		for _, l := range c.Evidence.Licenses {
			id := l.License.ID
			if mended, ok := read[id]; ok {
				id = mended
			}
			if !slices.Contains(allowed, id) {
				return fmt.Errorf("%s is under %q: read the licence, and add it here if the binary may contain it", c.Name, id)
			}
			found = append(found, id)
		}
		if len(found) == 0 {
			return fmt.Errorf("%s has no known licence: read it", c.Name)
		}
		lines = append(lines, fmt.Sprintf("| %s | %s |", c.Name, strings.Join(found, ", ")))
	}
	slices.Sort(lines)
	want := "# Licences of what a Caddy with the module contains\n\nThe licence of every Go module that such a Caddy is built with. `make licences` writes this page; `make licences-check` fails if it is out of date. go.mod and the output of `make sbom` have the versions.\n\n| module | licence |\n|---|---|\n" +
		strings.Join(slices.Compact(lines), "\n") + "\n"
	if !check {
		return os.WriteFile(file, []byte(want), 0o644)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		return fmt.Errorf("%s is not up to date: run `make licences`", file)
	}
	return nil
}
