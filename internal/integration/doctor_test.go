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

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// without returns the environment without some variables, and with others.
func without(names []string, more ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(names, name)
	})
	return append(env, more...)
}

// in runs Caddy in an environment, and returns what it prints to standard output and
// to standard error, and its exit code.
func in(t *testing.T, env []string, caddy string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(caddy, args...)
	var out, errs strings.Builder
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// write writes a file of a test, and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTheCommandsReadEnvironmentFiles(t *testing.T) {
	caddy := program(t)
	database := standardapp.NewDatabase(t)
	dsn, variables := standardapp.Server.DSN(database), []string{"DATABASE_URL", "NEXTAUTH_SECRET"}
	env := write(t, "env", "# of the app\nDATABASE_URL="+dsn+" # local\nexport NEXTAUTH_SECRET='a secret'\n")
	config := write(t, "Caddyfile", caddytest.Site("stale_session", "respond ok"))
	keys := write(t, "Caddyfile", caddytest.Site("stale_session {", "	jwks http://127.0.0.1:1/keys", "}", "respond ok"))
	wrong := write(t, "wrong", "NEXTAUTH_SECRET = hunter2\n")
	for name, c := range map[string]struct {
		args string
		set  []string
		code int
		says string
	}{
		"doctor":                      {"doctor --envfile " + env, nil, 0, "users are looked up in"},
		"doctor, with a config":       {"doctor --envfile " + env + " --config " + config, nil, 0, "users are looked up in"},
		"doctor, with keys elsewhere": {"doctor --envfile " + env + " --config " + keys, nil, 2, "cannot fetch the key set"},
		"what is set comes first":     {"doctor --envfile " + env, []string{"DATABASE_URL=postgres://u@127.0.0.1:1/x"}, 2, "127.0.0.1:1"},
		"install":                     {"install --print --envfile " + env, nil, 0, "create trigger"},
		"install, with a config":      {"install --print --envfile " + env + " -c " + config, nil, 0, "create trigger"},
		"uninstall":                   {"uninstall --print --envfile " + env, nil, 0, "drop schema"},
		"the first of two files":      {"doctor --envfile " + env + " --envfile " + write(t, "other", "DATABASE_URL=postgres://u@127.0.0.1:1/x\n"), nil, 0, "users are looked up in"},
		"no such file":                {"doctor --envfile " + env + ".not", nil, 1, "no such file"},
		"no variables":                {"install --envfile " + wrong, nil, 1, "line 1: write NAME=VALUE"},
		"no such adapter":             {"doctor -a yaml -c " + config, nil, 1, "no config adapter"},
		"a Caddyfile of another name": {"doctor -c " + wrong, nil, 1, "--adapter"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := in(t, without(variables, c.set...), caddy, append([]string{"stale-session"}, strings.Fields(c.args)...)...)
			if code != c.code || !strings.Contains(out+errs, c.says) {
				t.Errorf("exit code %d, want %d: %s%s", code, c.code, out, errs)
			}
			if strings.Contains(errs, `"level"`) || strings.Contains(errs, "\tinfo\t") || code != 1 && errs != "" {
				t.Errorf("it prints a log: %s", errs)
			}
			if strings.Contains(out+errs, "hunter2") {
				t.Error("it prints a secret")
			}
		})
	}
}

// TestEnvironmentFilesAreReadAsCaddyReadsThem compares with `caddy environ`.
func TestEnvironmentFilesAreReadAsCaddyReadsThem(t *testing.T) {
	caddy := program(t)
	standardapp.NewDatabase(t)
	const variable = "TEST_OF_ENVFILES"
	for _, line := range []string{
		`postgres://u:p@h/d`, `"in quotes"`, `'in quotes'`, `a#comment`, `a # comment`, `"a # comment"`, `"two` + "\n" + `lines"`, `"a \"quoted\" word"`, `a=b=c`, ``, `"`, `''`, `a"b`, `"a" # c` + "\n" + `OTHER="x"`,
	} {
		file := write(t, "env", "# first\n\n export "+variable+"="+line+"\nLAST=1\n")
		// The error of a key file quotes its path.
		config := write(t, "Caddyfile", caddytest.Site("stale_session {", "	key_file {env."+variable+"}/nowhere", "}"))
		environ, _, code := in(t, without([]string{variable, "LAST"}), caddy, "environ", "--envfile", file)
		if code != 0 {
			t.Fatalf("%q: exit code %d", line, code)
		}
		out, errs, _ := in(t, without([]string{variable, "LAST"}), caddy, "stale-session", "doctor", "--envfile", file, "--config", config)
		var found []struct{ Remedy string }
		if err := json.Unmarshal([]byte(out), &found); err != nil {
			t.Fatalf("%q: %v: %s%s", line, err, out, errs)
		}
		_, value, set := strings.Cut(environ, "\n"+variable+"=")
		value, _, _ = strings.Cut(value, "\nLAST=")
		value = strings.TrimSuffix(value, "\n")
		if !set || !slices.ContainsFunc(found, func(f struct{ Remedy string }) bool {
			return value == "" && strings.Contains(f.Remedy, variable) || value != "" && strings.Contains(f.Remedy, value+"/nowhere")
		}) {
			t.Errorf("%q: Caddy reads %q: %s", line, value, out)
		}
	}
}

func TestTwoSitesOnOneDatabaseGetOneAnswer(t *testing.T) {
	caddy := program(t)
	standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	text := o.Config("stale_session /a* {", "	timeout 1s", "}", "stale_session /b* {", "	poll 20ms", "}", "stale_session /c* {", "	mode observe", "}", "respond ok")
	out, _, code := in(t, os.Environ(), caddy, "stale-session", "doctor", "--config", write(t, "Caddyfile", text))
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	var found []struct{ Text string }
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatal(err)
	}
	for i, f := range found {
		if slices.Contains(found[:i], f) {
			t.Errorf("it says twice: %s", f.Text)
		}
	}
	base := caddytest.Start(t, text)
	caddytest.Ask(t, base, standardapp.Session(t, "live"))
	out, code = command(t, caddy, "", "status", "--address", o.Address)
	var status struct {
		Handlers  []struct{ Database string }
		Databases []struct {
			Name, Health string
			Accounts     struct{ Misses int }
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Handlers) != 3 || len(status.Databases) != 1 || code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if d := status.Databases[0]; d.Name != status.Handlers[0].Database || d.Health != "ok" || d.Accounts.Misses == 0 {
		t.Errorf("%+v", d)
	}
}

// TestTriggersServeEverySite installs those of two sites that read other columns of a
// table, and of one that looks users up in another.
func TestTriggersServeEverySite(t *testing.T) {
	caddy := program(t)
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `alter table "User" add column stamp text, add column seal text`, `create table people (id int primary key)`)
	text := caddytest.Site("stale_session /a* {", "	users User {", "		match stamp stamp", "	}", "}", "stale_session /b* {", "	users {", "		match seal seal", "	}", "}",
		"stale_session /c* {", "	users people", "}", "respond ok")
	out, errs, code := in(t, os.Environ(), caddy, "stale-session", "install", "--config", write(t, "Caddyfile", text))
	if code != 0 || strings.Count(out, "Installed") != 2 {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if n := len(standardapp.PIDs(t, `select t.oid::int from pg_trigger t join pg_proc p on p.oid = t.tgfoid where tgname = 'stale_session_update' and tgrelid = '"User"'::regclass and prosrc ~ 'stamp' and prosrc ~ 'seal' and $1 <> ''`, database)); n != 1 {
		t.Errorf("%d triggers are for both columns", n)
	}
	if tables := triggers(t, database); tables != "User people" {
		t.Errorf("triggers on %s", tables)
	}
}

// TestTheCommandsWorkBehindAPooler does not say in the address that there is one.
func TestTheCommandsWorkBehindAPooler(t *testing.T) {
	caddy := program(t)
	database := standardapp.NewDatabase(t)
	pooler, err := standardapp.Server.Pooler(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closePooler(t, pooler) })
	behind := without([]string{"DATABASE_URL"}, "DATABASE_URL="+pooler.DSN())
	for _, c := range []struct{ args, says string }{
		{"doctor", "notifications do not arrive, as behind a transaction pooler"},
		{"install --grant postgres", "Installed the triggers"},
		{"doctor", "nodes share revocations through the table"},
		{"uninstall", "Removed the triggers"},
	} {
		out, errs, code := in(t, behind, caddy, append([]string{"stale-session"}, strings.Fields(c.args)...)...)
		if code != 0 || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit code %d: %s%s", c.args, code, out, errs)
		}
	}
}

func closePooler(t *testing.T, p *pgtest.Pooler) {
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestDoctorTellsWhetherSigningOutElsewhereIsNoticed has the table of sessions of Better
// Auth, for roles with and without the right to read it.
func TestDoctorTellsWhetherSigningOutElsewhereIsNoticed(t *testing.T) {
	caddy := program(t)
	database := standardapp.NewDatabase(t)
	role := "reader_of_" + database
	standardapp.Execute(t, database, `create role `+role+` login`, `grant select on "User" to `+role)
	asRole := strings.Replace(standardapp.Server.DSN(database), "postgres@", role+"@", 1)
	config := write(t, "Caddyfile", caddytest.Site("stale_session {", "	users User", "}", "respond ok"))
	for _, c := range []struct {
		name, sql, dsn, says string
	}{
		{"no table", `select`, asRole, ""},
		{"another library's table", `create table session (id text primary key)`, asRole, ""},
		{"no right", `drop table session; create table session (token text primary key, "userId" text not null, "expiresAt" timestamptz not null)`, asRole, "the table session cannot be read"},
		{"rows that are hidden", `grant select on session to ` + role + `; alter table session enable row level security`, asRole, "the table session cannot be read"},
		{"all rights", `select`, standardapp.Server.DSN(database), "who signs out elsewhere is noticed, by the table session"},
	} {
		standardapp.Execute(t, database, strings.Split(c.sql, "; ")...)
		env := without([]string{"DATABASE_URL", "NEXTAUTH_SECRET"}, "DATABASE_URL="+c.dsn, "BETTER_AUTH_SECRET="+standardapp.Secret)
		out, errs, _ := in(t, env, caddy, "stale-session", "doctor", "--config", config)
		if c.says == "" && strings.Contains(out, "signs out elsewhere") || !strings.Contains(out, c.says) || strings.Contains(out, "panic") {
			t.Errorf("%s: %s%s", c.name, out, errs)
		}
	}
}
