package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
)

// versions are the versions of all programs.
type versions struct {
	Caddy, Go, Postgres, Wrk, Node string
	Cores                          int
}

// versions asks the programs for their versions.
func (b *bed) versions(ctx context.Context) (versions, error) {
	v := versions{Go: strings.TrimPrefix(runtime.Version(), "go"), Cores: runtime.NumCPU()}
	caddy, err := exec.CommandContext(ctx, b.options.caddy, "version").Output()
	if err != nil {
		return v, fmt.Errorf("asking Caddy for its version: %w", err)
	}
	wrk, _ := exec.CommandContext(ctx, "wrk", "-v").Output() // it exits with 1
	if v.Caddy, v.Wrk = word(caddy, 0), strings.TrimPrefix(word(wrk, 1), "debian/"); v.Caddy == "" || v.Wrk == "" {
		return v, fmt.Errorf("cannot parse the versions %q and %q", caddy, wrk)
	}
	if node, err := exec.CommandContext(ctx, "node", "--version").Output(); err == nil { // not all groups need it
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

// word returns the nth word of a text, or nothing.
func word(text []byte, n int) string {
	words := strings.Fields(string(text))
	if n >= len(words) {
		return ""
	}
	return words[n]
}
