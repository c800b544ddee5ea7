// Package npm installs the Node packages of test programs.
package npm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
