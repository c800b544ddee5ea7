package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// programs is the directory of program; TestMain removes it.
var programs string

// build links Caddy with the module, when a test first needs it.
var build = sync.OnceValues(func() (file string, err error) {
	if programs, err = os.MkdirTemp("", "caddy"); err != nil {
		return "", err
	}
	file = filepath.Join(programs, "caddy")
	if out, err := exec.Command("go", "build", "-o", file, "../../cmd/caddy").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return file, nil
})

// program returns the path of Caddy with the module.
func program(t *testing.T) string {
	t.Helper()
	file, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTheCommandInstallsAndRemovesTriggers(t *testing.T) {
	caddy := program(t)
	database := standardapp.NewDatabase(t)
	const reader = "reader_of_the_command"
	standardapp.Execute(t, database, `alter table "User" add column stamp text`, `create table people (id int primary key)`, `create role `+reader,
		`create table "Account" ("userId" text, provider text, "providerAccountId" text, access_token text)`, `create schema idp`, `create table idp.links (like "Account")`)
	t.Cleanup(func() { standardapp.Execute(t, database, `drop owned by `+reader, `drop role `+reader) })
	dsn := standardapp.Server.DSN(database)
	dir := t.TempDir()
	caddyfile := filepath.Join(dir, "Caddyfile")
	site := caddytest.Site("stale_session /a* {", "	users User {", "		match stamp stamp", "	}", "}", "stale_session /b* {", "	users people", "	mode observe", "}",
		"stale_session /c* {", "	users User {", "		accounts idp.links", "	}", "}", "respond ok")
	if err := os.WriteFile(caddyfile, []byte(site), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "Other")
	if err := os.WriteFile(other, []byte(caddytest.Site("respond ok")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		args  string
		fails bool
		says  []string
		never []string
		left  string // the triggers by table
	}{
		{"print", "install --print", false, []string{"create trigger stale_session_delete after delete on \"public\".\"User\"", "create schema"}, nil, ""},
		{"install", "install", false, []string{"Installed the triggers", database}, nil, "User"},
		{"install, again", "install --database " + dsn, false, []string{"Installed the triggers"}, nil, "User"},
		{"another table", "install --users people", false, []string{"Installed the triggers"}, nil, "User people"},
		{"rights, printed", "install --print --survive-reset --grant " + reader, false, []string{"\n-- The price of --survive-reset: " + reader + " can read every table that postgres creates", "GRANT SELECT (id) ON public.\"User\" TO " + reader + ";", "GRANT SELECT (\"userId\", provider, \"providerAccountId\") ON public.\"Account\" TO " + reader + ";", "grant execute on function \"stale_session\".\"restore public.User\"() to \"" + reader + "\"", "ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT USAGE ON SCHEMAS TO " + reader + ";"}, nil, "User people"},
		{"rights", "install --grant " + reader, false, []string{"Installed the triggers"}, []string{"price"}, "User people"},
		{"rights that survive resets", "install --survive-reset --grant " + reader, false, []string{"Installed the triggers", "The price of --survive-reset: " + reader + " can read every table that postgres creates"}, nil, "User people"},
		{"for nobody", "install --survive-reset", true, []string{"add --grant ROLE"}, nil, "User people"},
		{"uninstall rights, printed", "uninstall --print", false, []string{"ALTER DEFAULT PRIVILEGES FOR ROLE postgres REVOKE SELECT ON TABLES FROM " + reader, "-- " + reader + " can still read the users table"}, nil, "User people"},
		{"uninstall, printed", "uninstall --print", false, []string{"drop schema if exists stale_session cascade"}, nil, "User people"},
		{"uninstall", "uninstall", false, []string{"Removed the triggers", reader + " can still read the users table. To take that back, as postgres: REVOKE SELECT ON public.\"User\" FROM " + reader, reader + " can still read public.\"Account\". To take that back, as postgres: REVOKE SELECT ON public.\"Account\" FROM " + reader}, nil, ""},
		{"uninstall, again", "uninstall", false, []string{"Removed the triggers"}, nil, ""},
		{"of a configuration, printed", "install --print --config " + caddyfile + " --adapter caddyfile", false, []string{`old."stamp"`, `"people"`}, nil, ""},
		{"of a configuration", "install --config " + caddyfile + " --adapter caddyfile", false, []string{"Installed the triggers"}, nil, "User people"},
		{"of a configuration, with rights", "install --config " + caddyfile + " --adapter caddyfile --grant " + reader, false, []string{"Installed the triggers"}, nil, "User people"},
		{"what it has granted", "uninstall --print", false, []string{"ON public.\"Account\" FROM " + reader, "ON idp.links FROM " + reader}, nil, "User people"},
		{"uninstall of a configuration", "uninstall -c " + caddyfile + " -a caddyfile", false, []string{"Removed the triggers"}, nil, ""},
		{"a configuration without the handler", "install -c " + other + " -a caddyfile", true, []string{"no stale_session handler"}, nil, ""},
		{"no such table", "install --users nobody", true, []string{"there is no table nobody"}, nil, ""},
		{"no database", "install --database postgres://u:hunter2@127.0.0.1:1/x", true, []string{"127.0.0.1:1"}, []string{"hunter2"}, ""},
		{"no such role", "install --grant nobody", true, []string{"there is no such role to grant to"}, nil, ""},
		{"no such variable", "install --database {env.NOT_SET}", true, []string{"NOT_SET"}, nil, ""},
		{"too much", "install --database x --config y", true, []string{"database", "config"}, nil, ""},
		{"no such subcommand", "uninstal", true, []string{`unknown command "uninstal"`}, nil, ""},
		{"no subcommand", "", false, []string{"install", "uninstall", "doctor", "status"}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			cmd := exec.Command(caddy, append([]string{"stale-session"}, strings.Fields(c.args)...)...)
			cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); (err != nil) != c.fails {
				t.Errorf("%v", err)
			}
			for _, text := range c.says {
				if !strings.Contains(out.String(), text) {
					t.Errorf("does not say %q: %s", text, &out)
				}
			}
			for _, text := range c.never {
				if strings.Contains(out.String(), text) {
					t.Errorf("says %q: %s", text, &out)
				}
			}
			if left := triggers(t, database); left != c.left {
				t.Errorf("triggers on %q, want %q", left, c.left)
			}
		})
	}
}

// triggers names the tables that have all triggers.
func triggers(t *testing.T, database string) string {
	t.Helper()
	var tables []string
	for _, table := range []string{"User", "people"} {
		n := len(standardapp.PIDs(t, `select t.oid::int from pg_trigger t join pg_class c on c.oid = t.tgrelid where tgname like 'stale_session%' and tgenabled = 'A' and relname = '`+table+`' and $1 <> ''`, database))
		if n == 3 {
			tables = append(tables, table)
		} else if n > 0 {
			t.Errorf("%d triggers on %s", n, table)
		}
	}
	return strings.Join(tables, " ")
}

// TestPrintedSQLWorksInAMigration runs what install prints with psql.
func TestPrintedSQLWorksInAMigration(t *testing.T) {
	caddy := program(t)
	database := standardapp.NewDatabase(t)
	cmd := exec.Command(caddy, "stale-session", "install", "--print")
	sql, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	file := standardapp.Server.File(database + ".sql")
	if err := os.WriteFile(file, sql, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := standardapp.Server.Run(t.Context(), "psql", database, "--set=ON_ERROR_STOP=1", "--single-transaction", "--file="+file); err != nil {
		t.Fatal(err)
	}
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	poll 10s", "	cache {", "		ttl 1h", "	}", "}", app.Proxy()))
	live := standardapp.Session(t, "live")
	eventually.Holds(t, "the session is live", func() bool { return caddytest.Ask(t, base, live) == 200 })
	standardapp.Execute(t, database, `delete from "User"`)
	eventually.Holds(t, "the deletion is noticed", func() bool { return caddytest.Ask(t, base, live) == 401 })
}
