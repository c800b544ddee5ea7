package integration

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// command runs `caddy stale-session`, and returns what it prints and its exit
// code.
func command(t *testing.T, program, input string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(program, append([]string{"stale-session"}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func TestTheCommandOperatesARunningCaddy(t *testing.T) {
	caddy := program(t)
	standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, o.Config("stale_session", "respond ok"))
	old := standardapp.TokenOf(t, "live", time.Hour)
	_, value, _ := strings.Cut(old, "=")
	if status := caddytest.Ask(t, base, old); status != 200 {
		t.Fatalf("status %d", status)
	}
	for _, c := range []struct {
		name, input string
		args        []string
		code        int
		says        string
	}{
		{"status", "", []string{"status"}, 0, `"health": "ok"`},
		{"check of a user", "", []string{"check", "live"}, 0, `"verdict": "live"`},
		{"check of nobody", "", []string{"check", "deleted"}, 2, `"reason": "user_not_found"`},
		{"check of a token", value, []string{"check", "--token", "-"}, 0, `"subject": "live"`},
		{"check of cookies", "a=b; " + old, []string{"check", "--cookie", "-"}, 0, `"verdict": "live"`},
		{"check of no session", "", []string{"check", "--cookie", "a=b"}, 3, `"verdict": "anonymous"`},
		{"check of nothing", "", []string{"check"}, 1, "give a user id"},
		{"flush", "", []string{"flush"}, 0, `"accounts": 2`},
		{"revoke", "", []string{"revoke", "live"}, 0, `"subject": "live"`},
		{"check of a revoked session", old, []string{"check", "--cookie", "-"}, 2, `"reason": "token_revoked"`},
		{"check of two things", "", []string{"check", "live", "--token", "x"}, 1, "give a user id"},
		{"revoke of nobody", "", []string{"revoke", "deleted"}, 1, "; add --force to revoke all the same"},
		{"revoke of nobody, all the same", "", []string{"revoke", "deleted", "--force"}, 0, `"subject": "deleted"`},
		{"revoke in another database", "", []string{"revoke", "live", "--database", "x"}, 1, "no stale_session handler"},
		{"restore", "", []string{"restore", "live"}, 0, `"subject": "live"`},
		{"restore again", "", []string{"restore", "live"}, 1, "nothing to restore"},
		{"nobody there", "", []string{"status", "--address", "unix/" + filepath.Join(t.TempDir(), "nobody")}, 1, "asking the running Caddy"},
		{"a site there", "", []string{"status", "--address", strings.TrimPrefix(base, "http://")}, 1, "is not Caddy's admin endpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if !slices.Contains(args, "--address") {
				args = append(args, "--address", o.Address)
			}
			out, code := command(t, caddy, c.input, args...)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("exit code %d, want %d; %q in: %s", code, c.code, c.says, out)
			}
			if strings.Contains(out, value) {
				t.Error("it prints the token")
			}
		})
	}
}

func TestTheDoctorTellsWhatToChange(t *testing.T) {
	caddy := program(t)
	good := standardapp.TokenOf(t, "live", time.Hour)
	_, value, _ := strings.Cut(good, "=")
	for _, c := range []struct {
		name     string
		commands []string
		config   []string // options of the directive
		setenv   map[string]string
		input    string
		code     int
		says     []string
	}{
		{name: "all is well", input: value, says: []string{"the token names a user in", "the token can be read", `users are looked up in \"public\".\"User\"`, "has no triggers", "Postgres "}},
		{name: "a token of nobody", input: value, commands: []string{`delete from "User"`, `insert into "User" (id) values ('other')`}, code: 2, says: []string{"the token can be read", "the token names nobody in"}},
		{name: "another secret", setenv: map[string]string{"NEXTAUTH_SECRET": "another"}, input: value, code: 2, says: []string{"encrypted with another secret: use the app's own NEXTAUTH_SECRET"}},
		{name: "no secret", setenv: map[string]string{"NEXTAUTH_SECRET": ""}, code: 2, says: []string{"sessions cannot be read", "AUTH_SECRET or NEXTAUTH_SECRET"}},
		{name: "a key set that cannot be fetched", config: []string{"jwks http://127.0.0.1:1/keys"}, code: 2, says: []string{"sessions cannot be read", "jwks: cannot fetch the key set"}},
		{name: "no database", setenv: map[string]string{"DATABASE_URL": "postgres://u:hunter2@127.0.0.1:1/d"}, code: 2, says: []string{"no connection to the database d at 127.0.0.1:1", "is the server running"}},
		{name: "no address", setenv: map[string]string{"DATABASE_URL": ""}, code: 2, says: []string{"the database is not configured", "DATABASE_URL"}},
		{name: "no table", commands: []string{`drop table "User"`}, code: 2, says: []string{"the users table is not found"}},
		{name: "an empty table", commands: []string{`truncate "User"`}, says: []string{"has no rows"}},
		{name: "no index", commands: []string{`alter table "User" drop constraint "User_pkey"`}, code: 2, says: []string{"CREATE UNIQUE INDEX ON"}},
		{name: "no rights", commands: []string{`create role reader login`}, config: []string{"database {env.READER_URL}"}, code: 2, says: []string{"GRANT"}},
		{name: "another users table", config: []string{"users people"}, code: 2, says: []string{"there is no table people"}},
		{name: "no poll", config: []string{"poll off"}, says: []string{"`poll off`", "`timeout 5s`"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			standardapp.Execute(t, database, c.commands...)
			t.Cleanup(func() { standardapp.Execute(t, "postgres", `drop role if exists reader`) })
			t.Setenv("READER_URL", "postgres://reader@"+standardapp.Server.Address()+"/"+database+"?sslmode=disable")
			for name, value := range c.setenv {
				t.Setenv(name, value)
			}
			file := filepath.Join(t.TempDir(), "Caddyfile")
			directives := append([]string{"stale_session {"}, c.config...)
			if err := os.WriteFile(file, []byte(caddytest.Site(append(directives, "}", "respond ok")...)), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"doctor", "--config", file, "--adapter", "caddyfile"}
			if c.input != "" {
				args = append(args, "--token", "-")
			}
			cmd := exec.Command(caddy, append([]string{"stale-session"}, args...)...)
			cmd.Stdin = strings.NewReader(c.input)
			text, err := cmd.Output()
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d: %v", code, c.code, err)
			}
			var found []struct{ Level, Text, Remedy string }
			if err := json.Unmarshal(text, &found); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			for _, says := range c.says {
				if !strings.Contains(string(text), says) {
					t.Errorf("it does not say %q: %s", says, text)
				}
			}
			for _, secret := range []string{"hunter2", value} {
				if strings.Contains(string(text), secret) {
					t.Errorf("it says %q", secret)
				}
			}
		})
	}
}

func TestTheDoctorTriesRedis(t *testing.T) {
	caddy := program(t)
	standardapp.NewDatabase(t)
	const users, shared = "~user:* +get +hgetall +info +ping +hello +client", "~stale_session:revoked:* +get +set +pttl +scan +ping +hello +client"
	redis, err := redistest.Start(t.Context(),
		"user caddy on >hunter2 resetchannels -@all "+users+" "+shared,
		"user reader on >hunter2 resetchannels -@all "+users)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Close() })
	for name, c := range map[string]struct {
		user, password, address, policy string
		code                            int
		says                            []string
	}{
		"all is well":       {"caddy", "hunter2", redis.Address(), "noeviction", 0, []string{"users can be looked up in redis at", "nodes can share revocations through redis at"}},
		"another password":  {"caddy", "hunter3", redis.Address(), "noeviction", 2, []string{"users cannot be looked up in redis at", "nodes cannot share revocations through redis at", "does not accept the user or the password"}},
		"no right to write": {"reader", "hunter2", redis.Address(), "noeviction", 2, []string{"users can be looked up in redis at", "nodes cannot share revocations", "lacks a right"}},
		"nobody there":      {"caddy", "hunter2", "127.0.0.1:1", "noeviction", 2, []string{"users cannot be looked up", "no connection to Redis"}},
		"it evicts":         {"caddy", "hunter2", redis.Address(), "allkeys-lru", 2, []string{"users cannot be looked up", "set it to noeviction", "nodes can share revocations"}},
	} {
		t.Run(name, func(t *testing.T) {
			if answer, err := redis.Do(t.Context(), "CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", c.policy); err != nil || answer != "+OK\r\n" {
				t.Fatal(answer, err)
			}
			t.Setenv("REDIS_URL", "redis://"+c.user+":"+c.password+"@"+c.address)
			file := filepath.Join(t.TempDir(), "Caddyfile")
			text := caddytest.Site("stale_session {", "	directory redis", "	revocations {", "		redis {env.REDIS_URL}", "	}", "}")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			out, code := command(t, caddy, "", "doctor", "--config", file, "--adapter", "caddyfile")
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, says := range c.says {
				if !strings.Contains(out, says) {
					t.Errorf("it does not say %q: %s", says, out)
				}
			}
			if strings.Contains(out, "hunter") {
				t.Errorf("it says the password: %s", out)
			}
		})
	}
}

// TestTheDoctorNoticesAnAppThatDoesNotKnowItsAddress opens sign-in pages of apps
// without AUTH_URL.
func TestTheDoctorNoticesAnAppThatDoesNotKnowItsAddress(t *testing.T) {
	caddy := program(t)
	standardapp.NewDatabase(t)
	t.Setenv("AUTH_URL", "")
	base := caddytest.Start(t, caddytest.Site(
		`redir /inside http://localhost:3999/login`, `redir /container http://web:3000/login`,
		`redir /back /page?callbackUrl=http%3A%2F%2Flocalhost%3A3999%2Fadmin`,
		`redir /cookie /page`, `header /cookie Set-Cookie "__Secure-authjs.callback-url=http%3A%2F%2F10.1.2.3%3A3000; Path=/"`,
		`redir /another /provider?callbackUrl=https%3A%2F%2Fid.example.com%2F`, `redir /own /page?callbackUrl={scheme}://{hostport}/admin`,
		`redir /away /farther`, `redir /farther https://id.example.invalid/login`,
		`respond /page ok`, `respond /provider ok`,
	))
	for path, c := range map[string]struct {
		code int
		says string
	}{
		"/inside":    {2, "sends people to http://localhost:3999, which they cannot reach"},
		"/container": {2, "sends people to http://web:3000"},
		"/back":      {2, "sends people to http://localhost:3999"},
		"/cookie":    {2, "sends people to http://10.1.2.3:3000"},
		"/another":   {0, "sends people to another site, https://id.example.com"},
		"/away":      {0, "sends people to another site, https://id.example.invalid"},
		"/own":       {0, "the sign-in page opens"},
	} {
		out, code := command(t, caddy, "", "doctor", "--sign-in", base+path)
		if code != c.code || !strings.Contains(out, c.says) || strings.Contains(out, "AUTH_TRUST_HOST") != (path != "/own") {
			t.Errorf("%s: exit code %d, want %d: %s", path, code, c.code, out)
		}
	}
}

func TestTheDoctorOpensTheSignInPage(t *testing.T) {
	caddy := program(t)
	standardapp.NewDatabase(t)
	base := caddytest.Start(t, caddytest.Site(`redir /itself /itself`, `redir /circle /circle2`, `redir /circle2 /circle`, `redir /forward /page`, `respond /page ok`, `respond 404`))
	for path, c := range map[string]struct {
		code int
		says string
	}{
		"/page":    {0, "the sign-in page opens"},
		"/forward": {0, "the sign-in page opens"},
		"/circle":  {2, "redirect loop"},
		"/itself":  {2, "redirect loop"},
		"/nothing": {2, "404"},
	} {
		file := filepath.Join(t.TempDir(), "Caddyfile")
		if err := os.WriteFile(file, []byte(caddytest.Site("stale_session {", "	sign_in "+path, "}")), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, way := range []struct {
			name, authURL string
			args          []string
		}{
			{"by --sign-in", "", []string{"--sign-in", base + path}},
			{"below AUTH_URL", base + "/api/auth", []string{"--config", file, "--adapter", "caddyfile"}},
		} {
			t.Setenv("AUTH_URL", way.authURL)
			out, code := command(t, caddy, "", append([]string{"doctor"}, way.args...)...)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("%s, %s: exit code %d, want %d: %s", path, way.name, code, c.code, out)
			}
		}
	}
	if out, code := command(t, caddy, "", "doctor", "--sign-in", strings.TrimPrefix(base, "http://")+"/page"); code != 2 || !strings.Contains(out, "no absolute URL") {
		t.Errorf("no scheme: exit code %d: %s", code, out)
	}
	t.Setenv("AUTH_URL", "http://127.0.0.1:1")
	if out, code := command(t, caddy, "", "doctor"); code != 2 || !strings.Contains(out, "start the app") {
		t.Errorf("nobody there: exit code %d: %s", code, out)
	}
	t.Setenv("AUTH_URL", "")
	if out, code := command(t, caddy, "", "doctor"); code != 0 || !strings.Contains(out, "pass its URL with --sign-in") {
		t.Errorf("no address: exit code %d: %s", code, out)
	}
}
