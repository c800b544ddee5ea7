package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	markdownCode    = regexp.MustCompile("(?ms)^ *```.*?^ *```|`[^`\n]*`")
	markdownFence   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	markdownLink    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	markdownHeading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	notInAnchors    = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestTheLinksOfPagesLeadSomewhere checks each relative link of the pages, and
// its anchor.
func TestTheLinksOfPagesLeadSomewhere(t *testing.T) {
	t.Chdir("../..")
	links := 0
	err := filepath.WalkDir(".", func(page string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "bin" || strings.HasPrefix(entry.Name(), ".") && page != ".") {
			return fs.SkipDir
		}
		if filepath.Ext(page) != ".md" {
			return nil
		}
		for _, match := range markdownLink.FindAllStringSubmatch(markdownCode.ReplaceAllString(read(t, page), ""), -1) {
			if strings.Contains(match[1], ":") { // an address
				continue
			}
			links++
			path, anchor, _ := strings.Cut(match[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", page, match[1], err)
			} else if anchor != "" && !slices.Contains(anchorsOf(read(t, target)), anchor) {
				t.Errorf("%s: %s has no heading for #%s", page, target, anchor)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if links < 50 {
		t.Errorf("only %d links were found", links)
	}
}

// anchorsOf returns the anchors that GitHub gives the headings of a page.
func anchorsOf(page string) []string {
	var anchors []string
	count := make(map[string]int)
	for _, match := range markdownHeading.FindAllStringSubmatch(markdownFence.ReplaceAllString(page, ""), -1) {
		anchor := strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-")
		if n := count[anchor]; n > 0 {
			anchors = append(anchors, fmt.Sprintf("%s-%d", anchor, n))
		} else {
			anchors = append(anchors, anchor)
		}
		count[anchor]++
	}
	return anchors
}

// TestTheIndexNamesEveryPage keeps docs/README.md complete.
func TestTheIndexNamesEveryPage(t *testing.T) {
	index := read(t, "../../docs/README.md")
	for _, page := range globs(t, "../../docs/*.md", "../../docs/*/*.md") {
		page, err := filepath.Rel("../../docs", page)
		if err != nil {
			t.Fatal(err)
		}
		if page != "README.md" && !strings.Contains(index, "]("+filepath.ToSlash(page)+")") {
			t.Errorf("docs/README.md does not link %s", page)
		}
	}
}
