package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testNames   = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)(?:/[A-Za-z_-]+)?`")
	makeTargets = regexp.MustCompile("`make ([a-z-]+)`")
)

// TestTheTestsThatDocumentsNameExist sees to it that each threat and each fault
// names a test, and that there is one of that name.
func TestTheTestsThatDocumentsNameExist(t *testing.T) {
	t.Chdir("../..")
	defined := make(map[string]bool)
	definition := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && (slices.Contains([]string{"node_modules", "bin"}, entry.Name()) || strings.HasPrefix(entry.Name(), ".") && path != ".") {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, match := range definition.FindAllSubmatch(text, -1) {
			defined[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, file := range []string{"docs/security.md", "docs/faults.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range testNames.FindAllStringSubmatch(string(text), -1) {
			named++
			if !defined[match[1]] {
				t.Errorf("%s names %s, which there is not", file, match[1])
			}
		}
		for _, match := range makeTargets.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(string(makefile), "\n"+match[1]+":") {
				t.Errorf("%s names `make %s`, which there is not", file, match[1])
			}
		}
		for line := range strings.Lines(string(text)) {
			columns := strings.Split(strings.Trim(line, "|\n "), " | ")
			isRow := len(columns) > 2 && !strings.HasPrefix(columns[0], "**") && !slices.Contains([]string{"threat", "part", "what", "requests"}, columns[0])
			if len(columns) == 6 && file == "docs/security.md" { // figures of the bench
				continue
			}
			if last := columns[len(columns)-1]; isRow && !testNames.MatchString(last) && !makeTargets.MatchString(last) {
				t.Errorf("%s: no test is named by %q", file, line)
			}
		}
	}
	if named < 60 {
		t.Errorf("only %d tests are named", named)
	}
}
