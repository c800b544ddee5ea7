// Package caddytest runs Caddy in the process of a test, in front of an app, on
// ports that the system chooses.
package caddytest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // as in users' builds
)

// Options are global options that keep Caddy from using anything outside the test.
const Options = `{
	admin off
	persist_config off
	auto_https off
	skip_install_trust
	grace_period 1m
}
`

// Site returns a Caddyfile with one site, on a port that the system chooses.
func Site(directives ...string) string {
	return Options + ":0 {\n\tbind 127.0.0.1\n\t" + strings.Join(directives, "\n\t") + "\n}\n"
}

// Adapt converts a Caddyfile to JSON.
func Adapt(caddyfile string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// Load loads a Caddyfile, which replaces the one loaded before.
func Load(caddyfile string) error {
	config, err := Adapt(caddyfile)
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

// Start loads a Caddyfile until the end of the test, and returns the URL of its
// site.
func Start(t testing.TB, caddyfile string) string {
	t.Helper()
	if err := Load(caddyfile); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return Address(t)
}

// Address returns the URL of the loaded site.
func Address(t testing.TB) string {
	t.Helper()
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		for _, listener := range server.Listeners() {
			return "http://" + listener.Addr().String()
		}
	}
	t.Fatal("Caddy does not listen")
	return ""
}

// Log is a log file of Caddy.
type Log struct{ file string }

// NewLog returns a log file, and Options with a log that writes to it.
func NewLog(t testing.TB) (*Log, string) {
	t.Helper()
	l := &Log{filepath.Join(t.TempDir(), "log")}
	return l, strings.Replace(Options, "{\n", "{\n\tlog {\n\t\toutput file "+l.file+"\n\t\tlevel DEBUG\n\t}\n", 1)
}

// File returns the path of the file.
func (l *Log) File() string { return l.file }

// Text returns the content of the file.
func (l *Log) Text(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// App is an app behind Caddy, which records its requests.
type App struct {
	*httptest.Server

	mu      sync.Mutex
	seen    []*http.Request
	handler http.HandlerFunc
}

// NewApp starts an app that answers all requests with 200 and "app".
func NewApp(t testing.TB) *App {
	t.Helper()
	a := new(App)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.seen = append(a.seen, r.Clone(r.Context()))
		handler := a.handler
		a.mu.Unlock()
		if handler != nil {
			handler(w, r)
			return
		}
		_, _ = io.WriteString(w, "app")
	}))
	t.Cleanup(a.Close)
	return a
}

// Answer sets the handler of the app; nil for the default.
func (a *App) Answer(handler http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handler = handler
}

// Seen returns the requests since the last call.
func (a *App) Seen() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

// Proxy returns the directive that passes requests to the app.
func (a *App) Proxy() string {
	return "reverse_proxy " + a.Listener.Addr().String()
}

// Client follows no redirects and stores no cookies.
var Client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Response is a response whose body is in Text.
type Response struct {
	*http.Response
	Text string
}

// Do sends a request without a body.
func Do(t testing.TB, method, url string, header http.Header) Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := Client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Response{response, string(text)}
}

// Cleared returns the names of the cookies that a response clears, in order.
func (r Response) Cleared() []string {
	var names []string
	for _, cookie := range r.Cookies() {
		if cookie.MaxAge < 0 && cookie.Value == "" {
			names = append(names, cookie.Name)
		}
	}
	return names
}
