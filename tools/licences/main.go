// Command licences writes docs/licences.md from a list of the parts of a
// binary (an SBOM in CycloneDX JSON, with what was found of licences), or with
// -check tells whether it is as it should be.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// read are licences that were read by hand, where the detector takes one text
// for another that is nearly the same, and why.
var read = map[string]string{
	"BSD-Source-Code": "BSD-3-Clause", // the text of the Go project, without a colon
	"OFL-1.1-no-RFN":  "MIT",          // chroma, whose fonts' licence is found first
}

// allowed are those that a binary under Apache-2.0 may contain.
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
	check := flag.Bool("check", false, "only tell whether the file is as it should be")
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
				return fmt.Errorf("%s is under %q: read its licence, and say here whether it may be part of this", c.Name, id)
			}
			found = append(found, id)
		}
		if len(found) == 0 {
			return fmt.Errorf("%s has no licence that is known: read it", c.Name)
		}
		lines = append(lines, fmt.Sprintf("| %s | %s |", c.Name, strings.Join(found, ", ")))
	}
	slices.Sort(lines)
	want := "# Licences of what a Caddy with the module contains\n\nWritten by `make licences`; `make licences-check` tells whether it is up to date. Versions are in go.mod, and in the list of parts that `make sbom` writes.\n\n| module | licence |\n|---|---|\n" +
		strings.Join(slices.Compact(lines), "\n") + "\n"
	if !check {
		return os.WriteFile(file, []byte(want), 0o644)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		return fmt.Errorf("%s is not up to date: run `make licences`", file)
	}
	return nil
}
