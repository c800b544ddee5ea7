package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// places are where packages install the server. tools/setup looks there, too.
var places = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// Find returns the directory of the server's programs: STALE_SESSION_PG_BIN if it
// is set, else that of an installed server.
func Find(ctx context.Context) (string, error) {
	if dir := os.Getenv("STALE_SESSION_PG_BIN"); dir != "" {
		if !complete(dir) {
			return "", fmt.Errorf("STALE_SESSION_PG_BIN is %s, which has no initdb or no postgres", dir)
		}
		return dir, nil
	}
	if dir := installed(ctx); dir != "" {
		return dir, nil
	}
	return "", errors.New("no Postgres server is installed: run make setup")
}

// installed returns the programs of an installed server, those of the newest in each
// place; empty if there is none.
func installed(ctx context.Context) string {
	var dirs []string
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(resolved))
		}
	}
	for _, place := range places {
		found, _ := filepath.Glob(place)
		slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
		dirs = append(dirs, found...)
	}
	if i := slices.IndexFunc(dirs, complete); i >= 0 {
		return dirs[i]
	}
	return ""
}

// version returns the first number in a path; 0 if there is none.
func version(path string) int {
	digits := strings.FieldsFunc(path, func(c rune) bool { return c < '0' || c > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(digits[0])
	return n
}

// complete reports whether a directory has the programs of a server.
func complete(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, program)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// unprivileged returns the user that runs the server if this process is root.
func unprivileged() *syscall.Credential {
	const nobody = 65534
	if u, err := user.Lookup("postgres"); err == nil {
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return &syscall.Credential{Uid: nobody, Gid: nobody}
}
