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

	stalesession "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/pgtest"
)

// BenchmarkHandler measures the module's whole part of a request: from the
// cookie to the verdict, with the account in the cache of a real directory.
func BenchmarkHandler(b *testing.B) {
	pg, err := pgtest.Start(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	defer pg.Close()
	if err := pg.Exec(b.Context(), "postgres", `create table "User" (id text primary key)`, `insert into "User" values ('live')`); err != nil {
		b.Fatal(err)
	}
	b.Setenv("DATABASE_URL", pg.DSN("postgres"))
	b.Setenv("NEXTAUTH_SECRET", secret)
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, Logging: &caddy.Logging{
		Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}},
	}})
	if err != nil {
		b.Fatal(err)
	}
	module, err := ctx.LoadModuleByID("http.handlers.stale_session", json.RawMessage(`{"guarded":[{"path":["/admin*"]}],"cache":{"ttl":"1h"}}`))
	if err != nil {
		b.Fatal(err)
	}
	handler := module.(*stalesession.Handler)
	defer handler.Cleanup()
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

	live4, err := mint.V4(secret, map[string]any{"sub": "live"})
	if err != nil {
		b.Fatal(err)
	}
	live5, err := mint.V5(secret, "authjs.session-token", map[string]any{"sub": "live"})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, path, cookie string }{
		{"unmatched", "/", "next-auth.session-token=" + live4},
		{"no session", "/admin", "theme=dark"},
		{"v4", "/admin", "theme=dark; next-auth.session-token=" + live4},
		{"v5", "/admin", "theme=dark; authjs.session-token=" + live5},
	} {
		b.Run(c.name, func(b *testing.B) {
			recorder := httptest.NewRecorder()
			request := httptest.NewRequest(http.MethodGet, "http://app.test"+c.path, nil)
			request.Header.Set("Cookie", c.cookie)
			request = caddyhttp.PrepareRequest(request, caddy.NewReplacer(), recorder, nil)
			b.ReportAllocs()
			for b.Loop() {
				if err := handler.ServeHTTP(recorder, request, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
