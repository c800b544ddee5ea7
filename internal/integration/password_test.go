package integration

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestNoPieceOfAPasswordShows looks for four characters in a row of a password that
// should have been escaped, in everything that shows an address: for each form of an
// address, each password, and each option that holds one.
func TestNoPieceOfAPasswordShows(t *testing.T) {
	caddyBinary := program(t)
	passwords := []string{"SecX?retY", "aQz#bWxc:kLmn", "12ab/Zk93%41xYz", "Kp@ssWq Jxkd", ")u&rI5]Fl|1)q~5?7G}"}
	for name, c := range map[string]struct{ options, address string }{
		"a URL":             {"database {env.ODD}", "postgres://app:%s@127.0.0.1:1/d"},
		"parameters":        {"database {env.ODD}", "jdbc:postgresql://127.0.0.1:1/d?user=u&password=%s"},
		"keywords":          {"database {env.ODD}", "host=127.0.0.1 port=1 dbname=d user=u password=%s"},
		"ADO.NET":           {"database {env.ODD}", "Server=127.0.0.1;Port=1;Database=d;User Id=u;Password=%s;"},
		"Npgsql":            {"database {env.ODD}", "host=127.0.0.1;port=1;database=d;username=u;password=%s"},
		"JDBC":              {"database {env.ODD}", "jdbc:postgresql://127.0.0.1:1;databaseName=d;user=u;password=%s"},
		"in the Caddyfile":  {"database {$ODD}", "postgres://app:%s@127.0.0.1:1/d"},
		"listen_database":   {"database postgres://u@127.0.0.1:1/d\n\tlisten_database {env.ODD}", "postgres://app:%s@127.0.0.1:1/d"},
		"cleanup":           {"cleanup {\n\tdatabase {env.ODD}\n}", "postgres://app:%s@127.0.0.1:1/d"},
		"Redis":             {"directory redis {\n\turl {env.ODD}\n}", "redis://app:%s@127.0.0.1:1/0"},
		"StackExchange":     {"directory redis {\n\turl {env.ODD}\n}", "redis://127.0.0.1,password=%s"},
		"revocations":       {"revocations {\n\tredis {env.ODD}\n}", "redis://:%s@127.0.0.1:1"},
		"a key set":         {"jwks {env.ODD}", "http://app:%s@127.0.0.1:1/jwks"},
		"a sign-in page":    {"sign_in {env.ODD}", "http://app:%s@127.0.0.1:1/signin"},
		"the app's address": {"database postgres://u@127.0.0.1:1/d", "http://app:%s@127.0.0.1:1/shop"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, password := range passwords {
				address := strings.Replace(c.address, "%s", password, 1)
				standardapp.Environment(t, "postgres://u@127.0.0.1:1/d")
				t.Setenv("ODD", address)
				if name == "the app's address" {
					t.Setenv("AUTH_URL", address)
				}
				shown := everywhere(t, c.options)
				file := filepath.Join(t.TempDir(), "Caddyfile")
				if err := os.WriteFile(file, []byte(caddytest.Site("stale_session {\n"+c.options+"\n}")), 0o600); err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(caddyBinary, "stale-session", "doctor", "--config", file, "--adapter", "caddyfile", "--sign-in", address)
				doctor, _ := cmd.CombinedOutput() // which finds that nothing runs
				shown["doctor"] = string(doctor)
				for where, text := range shown {
					for i := 0; i+4 <= len(password); i++ {
						if at := strings.Index(text, password[i:i+4]); at >= 0 {
							t.Errorf("%s: %s shows %q: …%s…", address, where, password[i:i+4], text[max(0, at-100):min(len(text), at+100)])
							break
						}
					}
				}
			}
		})
	}
}

// everywhere returns what is shown of a handler with some options: the error if they
// are refused, else all that there is to see after a request.
func everywhere(t *testing.T, options string) map[string]string {
	t.Helper()
	o := caddytest.NewOperator(t)
	log := filepath.Join(t.TempDir(), "log")
	site := o.Config("metrics /metrics", "route /dashboard/* {", "stale_session_dashboard", "}", "stale_session /a* {", options, "}", "respond ok")
	if err := caddytest.Load(strings.Replace(site, "{\n", "{\n\tlog {\n\t\toutput file "+log+"\n\t\tlevel DEBUG\n\t}\n", 1)); err != nil {
		logged, _ := os.ReadFile(log) // there is none if it does not adapt
		return map[string]string{"the error": err.Error(), "the log": string(logged)}
	}
	defer func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	}()
	base := caddytest.Address(t)
	caddytest.Ask(t, base+"/a", standardapp.Session(t, "live"))
	shown := map[string]string{"the metrics": caddytest.Do(t, http.MethodGet, base+"/metrics", nil).Text}
	for _, path := range []string{"", "status", "history"} {
		shown["the dashboard's "+path] = caddytest.Do(t, http.MethodGet, base+"/dashboard/"+path, nil).Text
	}
	shown["the status"] = o.Do("GET", "status", nil, nil)
	shown["the check"] = o.Do("POST", "check", caddytest.Object{"subject": "live"}, nil)
	shown["the answer"] = caddytest.Do(t, http.MethodGet, base+"/a", http.Header{"Cookie": {standardapp.Session(t, "gone")}}).Text
	logged, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	shown["the log"] = string(logged)
	if !strings.Contains(shown["the status"], `"databases"`) {
		t.Errorf("the status shows no databases: %s", shown["the status"])
	}
	return shown
}
