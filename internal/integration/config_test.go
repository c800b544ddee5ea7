package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestAdapt holds each file of testdata/adapt, in the form of Caddy's own
// goldens: a Caddyfile, a line of dashes, and the JSON that it adapts to, or a
// part of the error.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, found := strings.Cut(string(text), "\n----------\n")
			if !found {
				t.Fatal("no line of dashes")
			}
			input += "\n"
			if want = strings.TrimSpace(want); want == "" {
				t.Fatal("nothing is expected")
			}
			got, err := caddytest.Adapt(input)
			if !strings.HasPrefix(want, "{") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if formatted := string(caddyfile.Format([]byte(input))); formatted != input {
				t.Errorf("it is not formatted:\n%s", formatted)
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, got, "", "\t"); err != nil {
				t.Fatal(err)
			}
			if pretty.String() != want {
				if os.Getenv("UPDATE_GOLDENS") != "" {
					if err := os.WriteFile(file, []byte(input+"----------\n"+pretty.String()+"\n"), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				t.Errorf("adapted to\n%s", pretty.String())
			}
		})
	}
}

// TestJSONErrors are errors that only show when a configuration is loaded.
func TestConfigurationsThatDoNotLoad(t *testing.T) {
	for name, c := range map[string]struct {
		options string
		unset   string
		says    string
	}{
		"mode":                         {"mode maybe", "", `mode is "maybe"; it must be one of enforce, observe, off`},
		"scrub":                        {"scrub some", "", `scrub is "some"`},
		"on_error":                     {"on_error panic", "", `on_error is "panic"`},
		"respond":                      {"respond html", "", `respond is "html"`},
		"sign_in elsewhere":            {"sign_in //evil.example", "", `sign_in is "//evil.example"`},
		"sign_in without a slash":      {"sign_in login", "", `sign_in is "login"`},
		"clear_path":                   {"clear_path clear", "", `clear_path is "clear"`},
		"cookie":                       {`cookie "a b"`, "", `cookie name "a b"`},
		"cookie_domain":                {`cookie_domain "a b"`, "", "cookie_domain"},
		"secret that is empty":         {"secret {env.NOT_SET}", "", "secrets: evaluated placeholder {env.NOT_SET} is empty"},
		"no secret":                    {"", "NEXTAUTH_SECRET", "set AUTH_SECRET or NEXTAUTH_SECRET"},
		"no database":                  {"", "DATABASE_URL", "set DATABASE_URL"},
		"a database of another kind":   {"database mysql://root:hunter2@db/shop", "", "cannot parse the database address"},
		"a proxy of Prisma's":          {"database prisma://accelerate.example/?api_key=hunter2", "", "use the direct postgres:// address"},
		"a name of a table":            {"users a.b.c", "", "a.b.c is not a table name"},
		"users and query":              {"users \"User\"\n\t\tquery \"select 1\"", "", "both a users table and a query"},
		"key_file that is not":         {"key_file /nowhere/keys.pem", "", "key_file: open /nowhere/keys.pem"},
		"key_file with a secret":       {"key_file testdata/adapt/bare.caddyfiletest", "", "no public key found"},
		"jwks that is not":             {"jwks /nowhere/jwks.json", "", "jwks: open /nowhere/jwks.json"},
		"poll that is none":            {"poll soon", "", `poll is "soon"; it can be a time from 10ms to 10s, or off`},
		"poll too often":               {"poll 1ms", "", `poll is "1ms"`},
		"poll too seldom":              {"poll 1m", "", `poll is "1m"`},
		"listen_database that is not":  {"listen_database mysql://root:hunter2@db/shop", "", "listen_database: cannot parse the database address"},
		"listen_database not set":      {"listen_database {env.NOT_SET}", "", "listen_database: evaluated placeholder {env.NOT_SET} is empty"},
		"brake that is none":           {"brake half", "", `the share of brake is "half"; it can be a percentage above 0, such as 50%`},
		"brake of nothing":             {"brake 0%", "", `the share of brake is "0%"`},
		"brake of too much":            {"brake 101%", "", `the share of brake is "101%"`},
		"cleanup too often":            {"cleanup {\n\t\tevery 1s\n\t}", "", "cleanup: every is 1s; it must be 1m or more"},
		"cleanup of another kind":      {"cleanup {\n\t\tdatabase mysql://root:hunter2@db/shop\n\t}", "", "cleanup: cannot parse the database address"},
		"rescue":                       {"rescue perhaps", "", `rescue is "perhaps"; it must be one of on, off`},
		"directory beside database":    {"database postgres://u@127.0.0.1:1/d\n\t\tdirectory redis", "", "in the block of `directory postgres`"},
		"directory redis, no address":  {"directory redis", "", "set REDIS_URL"},
		"directory redis, bad key":     {"directory redis {\n\t\t\turl redis://:hunter2@127.0.0.1:1\n\t\t\tkey users\n\t\t}", "", `key is "users"; it must contain {subject} once`},
		"directory redis, bad url":     {"directory redis {\n\t\t\turl http://:hunter2@127.0.0.1:1\n\t\t}", "", "the address of Redis must be"},
		"two directories":              {"directory redis\n\t\tdirectory postgres", "", `duplicate option "directory"`},
		"revocations, bad url":         {"revocations {\n\t\t\tredis http://:hunter2@127.0.0.1:1\n\t\t}", "", "revocations: the address of Redis must be"},
		"backchannel_logout, alone":    {"backchannel_logout {\n\t\t\tpath /logout\n\t\t}", "", "backchannel_logout: issuer, audience and jwks are required"},
		"backchannel_logout, ends":     {"backchannel_logout {\n\t\t\tends all\n\t\t}", "", `backchannel_logout: ends is "all"; it must be one of session, user`},
		"backchannel_logout, bad jwks": {"backchannel_logout {\n\t\t\tissuer https://id.example\n\t\t\taudience app\n\t\t\tjwks /nowhere/jwks.json\n\t\t}", "", "jwks: open /nowhere/jwks.json"},
		"backchannel_logout, bad path": {"backchannel_logout {\n\t\t\tissuer https://id.example\n\t\t\taudience app\n\t\t\tjwks https://id.example/jwks\n\t\t\tpath logout\n\t\t}", "", `backchannel_logout: path is "logout"; it must begin with a slash`},
		"two endpoints at one path":    {"global_token_revocation {\n\t\t\tpath /x\n\t\t\tsecret 0123456789abcdef0123456789abcdef\n\t\t}\n\t\tshared_signals {\n\t\t\tpath /x\n\t\t\tissuer https://id.example\n\t\t\taudience app\n\t\t\tsub_is_user_id\n\t\t}", "", "shared_signals: another endpoint has the path /x too: set `path`"},
		"a provider, without Postgres": {"directory redis {\n\t\t\turl redis://127.0.0.1:1\n\t\t}\n\t\tshared_signals {\n\t\t\tissuer https://id.example\n\t\t\taudience app\n\t\t\tprovider keycloak\n\t\t}", "", "shared_signals: `provider` and `email_domains` need the users in Postgres"},
		"revocations, bad life":        {"revocations {\n\t\tlife soon\n\t}", "", `"soon" is not a positive duration`},
		"directory redis, bad match":   {"directory redis {\n\t\t\tmatch email\n\t\t}", "", "wrong argument count"},
		"directory redis, bad flag":    {"directory redis {\n\t\t\tno_eviction yes\n\t\t}", "", "wrong argument count"},
		"directory that is not":        {"directory ldap", "", "ldap"},
		"format without a key":         {"format better_auth", "", "format better_auth: no key to read its sessions with: set BETTER_AUTH_SECRET"},
		"format beside options":        {"format better_auth {\n\t\t\tsecret hunter2\n\t\t}\n\t\tcookie sid", "", "add `format authjs`"},
		"format with a wrong key set":  {"format better_auth {\n\t\t\tsecret hunter2\n\t\t\tjwks ftp://id.example/jwks.json\n\t\t}", "", "format better_auth: jwks: "},
		"require_session of a format":  {"format better_auth {\n\t\t\tsecret hunter2\n\t\t}\n\t\trequire_session", "", "`require_session` needs `sign_in`"},
		"jwks of another scheme":       {"jwks ftp://id.example/jwks.json", "", "https://"},
	} {
		t.Run(name, func(t *testing.T) {
			standardapp.Environment(t, "postgres://u:hunter2@127.0.0.1:1/d")
			if c.unset != "" {
				t.Setenv(c.unset, "")
			}
			err := caddytest.Load(caddytest.Site("stale_session {\n\t\t" + c.options + "\n\t}"))
			if err == nil {
				_ = caddy.Stop()
				t.Fatal("it loads")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), standardapp.Secret) {
				t.Errorf("a secret is in the error: %v", err)
			}
		})
	}
}

func TestJSONThatDoesNotLoad(t *testing.T) {
	standardapp.Environment(t, "postgres://u@127.0.0.1:1/d")
	for options, says := range map[string]string{
		`"timeout":-1`:               "must not be negative",
		`"cache":{"ttl":"-1s"}`:      "must not be negative",
		`"cache":{"size":-1}`:        "cache",
		`"secret":"x"`:               "unknown field",
		`"guarded":[{"nonsense":1}]`: "http.matchers.nonsense",
		`"guarded":{"path":["/x"]}`:  "guarded",

		`"shared_signals":[null]`:          "shared_signals: issuer and audience are required",
		`"global_token_revocation":[null]`: "global_token_revocation: set issuer and jwks",
	} {
		var config caddy.Config
		text := `{"admin":{"disabled":true},"apps":{"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"stale_session",` + options + `}]}]}}}}}`
		if err := json.Unmarshal([]byte(text), &config); err != nil {
			t.Fatal(err)
		}
		if err := caddy.Validate(&config); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v", options, err)
		}
	}
}

func TestModeOffNeedsNothingElseToBeRight(t *testing.T) {
	standardapp.Environment(t, "")
	t.Setenv("NEXTAUTH_SECRET", "")
	t.Setenv("STALE_SESSION_MODE", "off")
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	scrub some", "	respond html", "	on_error panic", "	rescue perhaps", "}", app.Proxy()))
	if response := caddytest.Do(t, "GET", base+"/", nil); response.Text != "app" {
		t.Errorf("body %q", response.Text)
	}
}

// TestTheExamplesAreRight loads every Caddyfile that users are shown.
func TestTheExamplesAreRight(t *testing.T) {
	standardapp.Environment(t, "postgres://u:hunter2@127.0.0.1:1/d")
	if err := os.Unsetenv("STALE_SESSION_MODE"); err != nil { // environment has it set back
		t.Fatal(err)
	}
	t.Setenv("SHOP_DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/shop")
	t.Setenv("SHOP_AUTH_SECRET", standardapp.Secret)
	t.Setenv("BETTER_AUTH_SECRET", standardapp.Secret)
	t.Setenv("AUTH0_SECRET", standardapp.Secret)
	for _, name := range []string{"SESSION_SECRET", "SESSION_PASSWORD", "WORKOS_COOKIE_PASSWORD"} {
		t.Setenv(name, password)
	}
	t.Setenv("MY_SECRET", standardapp.Secret)
	t.Setenv("CLEANUP_DATABASE_URL", "postgres://c:hunter2@127.0.0.1:1/d")
	t.Setenv("DIRECT_URL", "postgres://o:hunter2@127.0.0.1:1/d")
	t.Setenv("REDIS_URL", "redis://:hunter2@127.0.0.1:1")
	for _, name := range []string{"REVOCATION_SECRET", "EVENTS_SECRET"} {
		t.Setenv(name, strings.Repeat("hunter2 ", 4))
	}
	examples := map[string]string{}
	for _, file := range globs(t, "../../Caddyfile.example", "../../examples/container/Caddyfile", "../../examples/nextjs/Caddyfile") {
		examples[file] = read(t, file)
	}
	blocks := regexp.MustCompile("(?ms)^ *```caddyfile\n(.*?)^ *```")
	for _, page := range globs(t, "../../README.md", "../../docs/*.md", "../../docs/*/*.md") {
		for i, block := range blocks.FindAllStringSubmatch(read(t, page), -1) {
			examples[page+string(rune('a'+i))] = whole(block[1])
		}
	}
	if len(examples) < 5 {
		t.Fatalf("only %d examples were found", len(examples))
	}
	for name, example := range examples {
		t.Run(strings.TrimPrefix(name, "../../"), func(t *testing.T) {
			config, err := caddytest.Adapt(example)
			if err != nil {
				t.Fatalf("%v in\n%s", err, example)
			}
			if strings.Contains(string(config), "hunter2") || strings.Contains(string(config), standardapp.Secret) {
				t.Errorf("a secret is in the configuration: %s", config)
			}
			if !strings.Contains(name, "/docs/") {
				if formatted := string(caddyfile.Format([]byte(example))); strings.TrimSpace(formatted) != strings.TrimSpace(example) {
					t.Errorf("it is not formatted:\n%s", formatted)
				}
			}
			var parsed caddy.Config
			if err := json.Unmarshal(config, &parsed); err != nil {
				t.Fatal(err)
			}
			if err := caddy.Validate(&parsed); err != nil && !strings.Contains(err.Error(), "/run/secrets") && !strings.Contains(err.Error(), "/run/credentials") {
				t.Error(err)
			}
		})
	}
}

// globs returns the files that match any of some patterns, each of which has to
// match.
func globs(t *testing.T, patterns ...string) []string {
	t.Helper()
	var all []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		all = append(all, files...)
	}
	return all
}

// whole completes an example to a Caddyfile: one that begins with an address
// is whole, one that begins with a directive or an option belongs into a site.
func whole(example string) string {
	switch first := strings.Fields(example)[0]; first {
	case "localhost", "example.com", "http://localhost:8080", "http://localhost:2020", "http://:8081", "#", "(guarded)", "{":
		return example
	case "handle", "handle_errors", "reverse_proxy":
		return "example.com {\n" + example + "\n}"
	case "route", "stale_session":
		return "example.com {\n@guarded path /admin*\n" + example + "\n}"
	case "sign_in", "database": // alternatives
		lines := strings.Split(strings.TrimSpace(example), "\n")
		return "example.com {\nstale_session {\n" + lines[0] + "\n}\n}"
	default:
		return "example.com {\nstale_session {\n" + example + "\n}\n}"
	}
}

func TestTheModuleIsRegistered(t *testing.T) {
	module, err := caddy.GetModule("http.handlers.stale_session")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := module.New().(caddyhttp.MiddlewareHandler); !ok {
		t.Error("it is no handler")
	}
}

// TestEveryOptionIsShown holds the syntax that the directive's comment gives
// against what users read: each option is in the configuration's page and in
// the example, and the table of the page has no others.
func TestEveryOptionIsShown(t *testing.T) {
	read := func(file string) string {
		text, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	page, example := read("docs/configuration.md"), read("Caddyfile.example")
	outer := map[string]bool{}
	var options [][]string
	for file, begins := range map[string]string{
		"caddyfile.go": `stale_session \[<matcher>\]`, "internal/redis/module.go": "directory redis", "internal/admin/module.go": `stale_session_dashboard \[<matcher>\]`,
		"internal/admin/health.go": `stale_session_health \[<matcher>\]`,
	} {
		syntax := regexp.MustCompile(`(?s)//\t` + begins + ` \{\n(.*?)//\t\}\n`).FindStringSubmatch(read(file))
		if syntax == nil {
			t.Fatalf("the comment of %s shows no syntax", file)
		}
		lines := regexp.MustCompile(`(?m)^//\t(\t+)([a-z_]+)`).FindAllStringSubmatch(syntax[1], -1)
		if file == "caddyfile.go" {
			for _, line := range lines {
				outer[line[2]] = outer[line[2]] || line[1] == "\t"
			}
		}
		options = append(options, lines...)
	}
	for _, line := range options {
		option := line[2]
		if !regexp.MustCompile("`" + option + "`|(?m)^\\s+" + option + "( |$)").MatchString(page) {
			t.Errorf("docs/configuration.md does not show %s", option)
		}
		if !regexp.MustCompile(`(?m)^\s+(# *\t*)?` + option + `( |$)`).MatchString(example) {
			t.Errorf("Caddyfile.example does not show %s", option)
		}
	}
	rows := regexp.MustCompile("(?m)^\\| (`.*?`) \\|").FindAllStringSubmatch(page[strings.Index(page, "## Options"):strings.Index(page, "### database")], -1)
	shown := 0
	for _, row := range rows {
		for _, option := range strings.Split(row[1], ", ") {
			shown++
			if !outer[strings.Trim(option, "`")] {
				t.Errorf("docs/configuration.md has %s, which is no option", option)
			}
		}
	}
	count := 0
	for _, is := range outer {
		if is {
			count++
		}
	}
	if shown != count {
		t.Errorf("the table of docs/configuration.md has %d options of %d", shown, count)
	}
}
