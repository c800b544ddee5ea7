package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// newHandler provisions the module with options in JSON as Caddy does, with a users
// table.
func newHandler(b *testing.B, options string) caddyhttp.MiddlewareHandler {
	b.Helper()
	database, err := newDatabase(b.Context(), few)
	if database != nil {
		b.Cleanup(func() {
			if err := database.Close(); err != nil {
				b.Error(err)
			}
		})
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Setenv("DATABASE_URL", database.DSN("postgres"))
	b.Setenv("NEXTAUTH_SECRET", secret)
	for _, variable := range []string{"AUTH_SECRET", "AUTH_URL", "NEXTAUTH_URL", "STALE_SESSION_MODE"} {
		b.Setenv(variable, "")
	}
	off := false
	config, err := caddy.ProvisionContext(&caddy.Config{
		Admin: &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &off}},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
			"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}},
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(config)
	b.Cleanup(cancel) // which cleans the module up
	module, err := ctx.LoadModuleByID("http.handlers.stale_session", json.RawMessage(options))
	if err != nil {
		b.Fatal(err)
	}
	return module.(caddyhttp.MiddlewareHandler)
}

// answerless discards the response.
type answerless struct {
	header http.Header
	status int
}

func (a *answerless) Header() http.Header            { return a.header }
func (a *answerless) Write(body []byte) (int, error) { return len(body), nil }
func (a *answerless) WriteHeader(status int)         { a.status = status }

func v4Session(b *testing.B, subject string) string {
	b.Helper()
	made, err := sessionV4(subject)
	if err != nil {
		b.Fatal(err)
	}
	return made
}

func v5Session(b *testing.B, subject string) string {
	b.Helper()
	made, err := sessionV5(subject)
	if err != nil {
		b.Fatal(err)
	}
	return made
}

// nothing is a handler that does nothing.
type nothing struct{}

func (nothing) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

// BenchmarkHotPath is the whole handler, from the Cookie field to the verdict
// and to the next handler or the answer, with the account in the cache.
func BenchmarkHotPath(b *testing.B) {
	handler := newHandler(b, `{"guarded": [{"path": ["/admin*"]}]}`)
	live, gone := subject(1), subject(gone)
	for _, c := range []struct {
		name, path, cookie string
		verdict            verdict.Verdict // none when nothing is checked
		passes             bool
		alone              bool // without the module
	}{
		{"the request alone", "/admin", v4Session(b, live), "", true, true},
		{"other route", "/page", v4Session(b, live), verdict.Live, true, false},
		{"no session", "/admin", "theme=dark", verdict.Anonymous, true, false},
		{"v4 live", "/admin", v4Session(b, live), verdict.Live, true, false},
		{"v5 live", "/admin", v5Session(b, live), verdict.Live, true, false},
		{"scrubbed stale", "/api/auth/session", v4Session(b, gone), verdict.Stale, true, false},
		{"guarded stale", "/admin", v4Session(b, gone), verdict.Stale, false, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := &answerless{header: http.Header{}}
			prepared := caddyhttp.PrepareRequest(httptest.NewRequestWithContext(context.Background(), http.MethodGet, c.path, http.NoBody), caddy.NewReplacer(), w, new(caddyhttp.Server))
			var replacer *caddy.Replacer
			// Each request has its own replacer.
			request := func() *http.Request {
				replacer = caddy.NewReplacer()
				replacer.Map(func(string) (any, bool) { return nil, false })
				return prepared.WithContext(context.WithValue(prepared.Context(), caddy.ReplacerCtxKey, replacer))
			}
			cookies := []string{c.cookie}
			handler := handler
			if c.alone {
				handler = caddyhttp.MiddlewareHandler(nothing{})
			}
			passed := false
			next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				passed = true
				w.WriteHeader(http.StatusOK)
				return nil
			})
			serve := func() {
				passed = false
				clear(w.header)
				r := request()
				r.Header["Cookie"] = cookies
				if err := handler.ServeHTTP(w, r, next); err != nil {
					b.Fatal(err)
				}
			}
			serve() // the account is in the cache from here on
			if got, _ := replacer.GetString("http.stale_session.verdict"); got != string(c.verdict) || passed != c.passes {
				b.Fatalf("verdict %q, passed on: %t", got, passed)
			}
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}
