package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
)

// versions are the versions of all programs.
type versions struct {
	Caddy, Go, Postgres, Wrk, Node, Processor string
	Cores                                     int
}

// versions asks the programs for their versions.
func (b *bed) versions(ctx context.Context) (versions, error) {
	v := versions{Go: strings.TrimPrefix(runtime.Version(), "go"), Cores: runtime.NumCPU(), Processor: processor()}
	caddy, err := exec.CommandContext(ctx, b.options.caddy, "version").Output()
	if err != nil {
		return v, fmt.Errorf("asking Caddy for its version: %w", err)
	}
	if v.Caddy = word(caddy, 0); v.Caddy == "" {
		return v, fmt.Errorf("cannot parse the version %q", caddy)
	}
	// Not all measurements need these.
	wrk, _ := exec.CommandContext(ctx, "wrk", "-v").Output() // it exits with 1
	v.Wrk = strings.TrimPrefix(word(wrk, 1), "debian/")
	if node, err := exec.CommandContext(ctx, "node", "--version").Output(); err == nil {
		v.Node = word(node, 0)
	}
	conn, err := pgx.Connect(ctx, b.postgres.DSN("postgres"))
	if err != nil {
		return v, err
	}
	defer conn.Close(ctx)
	var postgres string
	err = conn.QueryRow(ctx, "show server_version").Scan(&postgres)
	v.Postgres = word([]byte(postgres), 0)
	return v, err
}

// model matches the line of /proc/cpuinfo with the name of a processor.
var model = regexp.MustCompile(`(?m)^model name\s*: (.*)$`)

// processor returns the name of the processor, or nothing if Linux does not know it.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	if match := model.FindSubmatch(text); match != nil {
		return string(match[1])
	}
	return ""
}

// packageVersions returns the versions of npm packages, which the package.json
// in a directory pins.
func packageVersions(dir string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err != nil {
		return nil, err
	}
	var pinned struct{ Dependencies map[string]string }
	err = json.Unmarshal(text, &pinned)
	return pinned.Dependencies, err
}

// word returns the nth word of a text, or nothing.
func word(text []byte, n int) string {
	words := strings.Fields(string(text))
	if n >= len(words) {
		return ""
	}
	return words[n]
}
