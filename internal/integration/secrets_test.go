package integration

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestNoSecretGetsOut looks for the app's secret, the database's password and
// the tokens in everything that Caddy shows.
func TestNoSecretGetsOut(t *testing.T) {
	const password = "a-password-of-the-database"
	database := standardapp.NewDatabase(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(standardapp.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DATABASE_URL", strings.Replace(standardapp.Server.DSN(database), "postgres@", "postgres:"+password+"@", 1))
	down := "postgres://app:" + password + "@127.0.0.1:1/d"
	t.Setenv("DOWN_URL", down)

	dir, err := os.MkdirTemp("", "adm") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	app := caddytest.NewApp(t)
	log, options := caddytest.NewLog(t)
	options = strings.Replace(options, "admin off", "admin unix/"+socket, 1)
	options = strings.Replace(options, "{\n", "{\n\tservers {\n\t\ttrace\n\t}\n\tmetrics\n", 1)
	site := caddytest.Site("log", "metrics /metrics",
		"stale_session /up* {", "	secret {file."+file+"}", "}",
		"stale_session /down* {", "	database {env.DOWN_URL}", "	on_error deny", "}", app.Proxy())
	site = strings.Replace(site, caddytest.Options, options, 1)

	shown := map[string]string{}
	config, err := caddytest.Adapt(site)
	if err != nil {
		t.Fatal(err)
	}
	shown["the adapted configuration"] = string(config)
	base := caddytest.Start(t, site)
	var tokens []string
	for _, path := range []string{"/up", "/down", "/api/auth/session"} {
		for _, subject := range []string{"live", "gone"} {
			token, err := mint.V4(standardapp.Secret, map[string]any{"sub": subject})
			if err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, token)
			response := caddytest.Do(t, http.MethodGet, base+path, http.Header{"Cookie": {standardapp.CookieName + "=" + token}})
			shown["the answer to "+subject+" on "+path] = response.Text
		}
	}
	caddytest.Do(t, http.MethodGet, base+"/up", http.Header{"Cookie": {standardapp.CookieName + "=garbage"}})
	shown["the metrics"] = caddytest.Do(t, http.MethodGet, base+"/metrics", nil).Text
	shown["the admin API"] = admin(t, socket, "/config/")
	o := caddytest.OperatorAt(t, "unix/"+socket)
	shown["the status"] = o.Do("GET", "status", nil, nil)
	shown["the events"] = strings.Join(past(t, o), "")
	for _, token := range tokens {
		shown["the check of a token"] += o.Do("POST", "check", caddytest.Object{"token": token}, nil)
		shown["the check of cookies"] += o.Do("POST", "check", caddytest.Object{"cookies": standardapp.CookieName + "=" + token}, nil)
	}
	shown["the check of a subject"] = o.Do("POST", "check", caddytest.Object{"subject": "live"}, nil)
	shown["the refusal of a check"] = o.Do("POST", "check", caddytest.Object{"token": tokens[0], "cookies": tokens[1]}, nil)
	shown["the log"] = log.Text(t)

	if !strings.Contains(shown["the metrics"], `caddy_stale_session_checks_total{reason="user_not_found"`) {
		t.Errorf("the metrics lack the checks:\n%s", shown["the metrics"])
	}
	for _, text := range []string{"stale session detected", "user lookup failed", `"handler":"stale_session"`} {
		if !strings.Contains(shown["the log"]+shown["the admin API"], text) {
			t.Errorf("neither the log nor the admin API has %q: %.300s", text, shown["the admin API"])
		}
	}
	for where, text := range map[string]string{"the status": `"health":"failing"`, "the events": `"database_unreachable"`, "the check of a token": `"live"`} {
		if !strings.Contains(shown[where], text) {
			t.Errorf("%s lacks %s: %s", where, text, shown[where])
		}
	}
	if strings.Contains(shown["the metrics"], "gone") {
		t.Error("a subject is in the metrics")
	}
	for where, text := range shown {
		for _, hidden := range append([]string{standardapp.Secret, password}, tokens...) {
			if i := strings.Index(text, hidden); i >= 0 {
				t.Errorf("%s shows a secret: …%s…", where, text[max(0, i-100):min(len(text), i+100)])
			}
		}
	}
}

// TestSecretsInFiles has each secret in a file, at first as docs/operations.md hands
// them over, and nothing in the environment.
func TestSecretsInFiles(t *testing.T) {
	page := read(t, "../../docs/operations.md")
	credentials := regexp.MustCompile(`(?m)^LoadCredential=(\w+):`).FindAllStringSubmatch(page, -1)
	recipe := regexp.MustCompile("(?s)LoadCredential=.*?```caddyfile\n(.*?)```").FindStringSubmatch(page)
	if recipe == nil || !strings.Contains(page, "\nExecStart=\nExecStart=/usr/bin/caddy run --config ") {
		t.Fatal("docs/operations.md does not say how to leave --environ out")
	}
	for _, credential := range credentials {
		if !strings.Contains(recipe[1], "{file./run/credentials/caddy.service/"+credential[1]+"}") {
			t.Errorf("%s is handed over, but not used", credential[1])
		}
	}
	for name, c := range map[string]struct {
		options string
		newline string // at the end of each file
	}{
		"as systemd hands them over": {recipe[1], ""},
		"with a line end":            {recipe[1], "\n"},
		"with one of Windows":        {"stale_session @guarded {\ndatabase {file./run/credentials/caddy.service/database_url}\n}", "\r\n"},
		"the address of the watch":   {"stale_session @guarded {\ndatabase {file./run/credentials/caddy.service/database_url}\nlisten_database {file./run/credentials/caddy.service/database_url}\nsecret {file./run/credentials/caddy.service/auth_secret}\n}", "\n"},
		"the address of the cleanup": {"stale_session @guarded {\ndatabase {file./run/credentials/caddy.service/database_url}\nsecret {file./run/credentials/caddy.service/auth_secret}\ncleanup {\ndatabase {file./run/credentials/caddy.service/database_url}\n}\n}", "\n"},
		"part of the address":        {"stale_session @guarded {\ndatabase postgres://postgres:{file./run/credentials/caddy.service/password}@" + standardapp.Server.Address() + "/{file./run/credentials/caddy.service/name}\nsecret {file./run/credentials/caddy.service/auth_secret}\n}", "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			const password = "a-password-of-the-database"
			database, dir := standardapp.NewDatabase(t), t.TempDir()
			dsn := strings.Replace(standardapp.Server.DSN(database), "postgres@", "postgres:"+password+"@", 1)
			standardapp.Environment(t, "")
			if strings.Contains(c.options, "auth_secret") {
				t.Setenv("NEXTAUTH_SECRET", "")
			}
			for file, text := range map[string]string{"database_url": dsn, "auth_secret": standardapp.Secret, "password": password, "name": database} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text+c.newline), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			app := caddytest.NewApp(t)
			site := caddytest.Site("@guarded path /a*", strings.ReplaceAll(c.options, "/run/credentials/caddy.service", dir), app.Proxy())
			if config, err := caddytest.Adapt(site); err != nil || strings.Contains(string(config), password) || strings.Contains(string(config), standardapp.Secret) {
				t.Errorf("%v: a secret is in the configuration: %s", err, config)
			}
			base := caddytest.Start(t, site)
			for subject, want := range map[string]int{"live": http.StatusOK, "gone": http.StatusUnauthorized} {
				if status := caddytest.Ask(t, base+"/a", standardapp.Session(t, subject)); status != want {
					t.Errorf("%s: status %d, want %d", subject, status, want)
				}
			}
		})
	}
}

// admin asks Caddy's admin API.
func admin(t *testing.T, socket, path string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
