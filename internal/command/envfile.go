package command

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// envfiles is the flag --envfile of `caddy run`. Caddy exports nothing that reads
// such files.
type envfiles []string

func (e *envfiles) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar((*[]string)(e), "envfile", nil, "Environment file(s) to load, as with `caddy run`")
}

// load sets the variables of the files that are not set.
func (e envfiles) load() error {
	for _, name := range e {
		if err := loadEnvfile(name); err != nil {
			return fmt.Errorf("environment file %s: %w", name, err)
		}
	}
	return nil
}

func loadEnvfile(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	variables, err := parseEnvfile(file)
	for name, value := range variables {
		if _, set := os.LookupEnv(name); err == nil && !set {
			err = os.Setenv(name, value)
		}
	}
	return err
}

// parseEnvfile parses lines of NAME=VALUE as Caddy does, to the letter: what doctor
// tests is what `caddy run` gets. Errors quote no value.
func parseEnvfile(file io.Reader) (map[string]string, error) {
	variables := make(map[string]string)
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		name = strings.TrimPrefix(name, "export ")
		switch {
		case !found || name == "" || strings.Contains(name, " "):
			return nil, fmt.Errorf("line %d: write NAME=VALUE", number)
		case strings.HasPrefix(value, " ") || strings.HasPrefix(value, "\t"):
			return nil, fmt.Errorf("line %d: remove the space before the value", number)
		}
		if before, _, comment := strings.Cut(value, "#"); comment { // also within quotes
			value = strings.TrimRight(before, " \t")
		}
		if strings.HasPrefix(value, `"`) || strings.HasPrefix(value, "'") {
			quote := value[:1]
			for !strings.HasSuffix(line, quote) || strings.HasSuffix(line, `\`+quote) {
				value = strings.ReplaceAll(value, `\`+quote, quote)
				if !lines.Scan() {
					break
				}
				number++
				line = strings.ReplaceAll(lines.Text(), `\`+quote, quote)
				value += "\n" + line
			}
			value = strings.TrimSuffix(strings.TrimPrefix(value, quote), quote)
		}
		variables[name] = value
	}
	return variables, lines.Err()
}
