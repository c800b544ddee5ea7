package command

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// printer prints text on a terminal, with colours unless NO_COLOR is set, and JSON
// elsewhere.
type printer struct {
	json   bool
	colour bool
	out    io.Writer
	err    error // the first one
}

func newPrinter(cmd *cobra.Command, asJSON bool) *printer {
	p := &printer{out: cmd.OutOrStdout()}
	file, isFile := p.out.(*os.File)
	terminal := isFile && term.IsTerminal(int(file.Fd()))
	p.json, p.colour = asJSON || !terminal, terminal && os.Getenv("NO_COLOR") == ""
	return p
}

// print prints a value as JSON.
func (p *printer) print(value any) error {
	encoder := json.NewEncoder(p.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// say prints a value as JSON, or a line of text in its place.
func (p *printer) say(value any, format string, args ...any) error {
	if p.json {
		return p.print(value)
	}
	p.line(format, args...)
	return p.err
}

func (p *printer) line(format string, args ...any) {
	if _, err := fmt.Fprintf(p.out, format+"\n", args...); p.err == nil {
		p.err = err
	}
}

// row prints a name and a text, unless that is empty.
func (p *printer) row(name, text string) {
	if text != "" {
		p.line("  %-11s %s", name, text)
	}
}

func (p *printer) good(text string) string { return p.coloured("32", text) }
func (p *printer) bad(text string) string  { return p.coloured("31", text) }

// coloured adds the ECMA-48 codes of a colour.
func (p *printer) coloured(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// counts lists the counters that are not 0, by name.
func counts(of map[string]float64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if of[name] > 0 {
			all = append(all, fmt.Sprintf("%.0f %s", of[name], name))
		}
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
