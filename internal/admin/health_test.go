package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// Caddy sets the placeholder during `shutdown_delay`.
func TestAProbeSendsRequestsElsewhereBeforeCaddyStops(t *testing.T) {
	t.Parallel()
	for stops, status := range map[any]int{true: 503, false: 200, nil: 200} {
		for _, h := range []*Health{{}, {RequireChecks: true}} {
			replacer := caddy.NewReplacer()
			replacer.Set("http.shutting_down", stops)
			r := httptest.NewRequestWithContext(context.WithValue(t.Context(), caddy.ReplacerCtxKey, replacer), http.MethodGet, "/healthz", http.NoBody)
			w := httptest.NewRecorder()
			if err := h.ServeHTTP(w, r, nil); err != nil || w.Code != status {
				t.Errorf("%v: status %d, error %v", stops, w.Code, err)
			}
		}
	}
}
