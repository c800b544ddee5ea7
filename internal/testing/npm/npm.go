// Package npm installs the Node packages of test programs, and runs these.
package npm

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Install installs the packages of the package-lock.json in a directory, unless
// they are installed already.
func Install(ctx context.Context, dir string) error {
	var want []byte
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		want = append(want, text...)
	}
	stamp := filepath.Join(dir, "node_modules", ".installed") // npm ci removes node_modules first
	if installed, err := os.ReadFile(stamp); err == nil && bytes.Equal(installed, want) {
		return nil
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci in %s: %w: %s", dir, err, bytes.TrimSpace(out))
	}
	return os.WriteFile(stamp, want, 0o644)
}

// Start runs server.mjs of a directory with more environment variables, until the test
// ends, and returns what it prints.
func Start(t testing.TB, dir string, variables ...string) *bufio.Reader {
	t.Helper()
	node := exec.Command("node", "server.mjs") //nolint:noctx // it outlives the context of the test
	node.Dir, node.Stderr = dir, os.Stderr
	node.Env = append(os.Environ(), variables...)
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = node.Process.Kill() // it has nothing to save
		_ = node.Wait()
	})
	return bufio.NewReader(out)
}
