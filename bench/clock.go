package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// buildAhead builds the Caddy of bench/caddy with a clock that is ahead by some
// seconds, and returns its path: nothing else sets the clock of one process that does
// not use the C library.
func (b *bed) buildAhead(ctx context.Context, seconds int) (string, error) {
	root, err := runProgram(ctx, ".", "go", "env", "GOROOT")
	if err != nil {
		return "", err
	}
	original := filepath.Join(strings.TrimSpace(root), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	const reads = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	before, after, found := strings.Cut(string(source), reads)
	if !found {
		return "", errors.New("time.Now of this Go is not the one that can be changed")
	}
	changed, err := b.write("time.go", before+reads+fmt.Sprintf("\tsec += %d\n", seconds)+after)
	if err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	file, err := b.write("overlay.json", string(overlay))
	if err != nil {
		return "", err
	}
	caddy := filepath.Join(b.dir, "caddy-ahead")
	_, err = runProgram(ctx, "bench", "go", "build", "-trimpath", "-ldflags", "-s -w", "-overlay", file, "-o", caddy, "./caddy")
	return caddy, err
}
