package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// BenchmarkFormats compares the same requests with the sessions of every library read,
// and with those of Auth.js alone: all/one is how many times as much they cost. The two
// take turns, so that whatever else the machine does slows both down.
func BenchmarkFormats(b *testing.B) {
	variables := []string{"BETTER_AUTH_SECRET", "SESSION_PASSWORD", "NUXT_SESSION_PASSWORD", "SESSION_SECRET", "SUPABASE_JWT_SECRET"}
	for _, name := range variables {
		b.Setenv(name, "")
	}
	const options = `{"guarded": [{"path": ["/admin*"]}]}`
	one := newHandler(b, options)
	for _, name := range variables {
		b.Setenv(name, "a secret of the benchmarks, of 32 characters or more")
	}
	all := newHandler(b, options)
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	for name, cookies := range map[string]string{
		"no session": "theme=dark; _ga=GA1.2.1234567890.1234567890; locale=en",
		"v4 live":    v4Session(b, subject(1)),
	} {
		b.Run(name, func(b *testing.B) {
			w := &answerless{header: http.Header{}}
			prepared := caddyhttp.PrepareRequest(httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/admin", http.NoBody), caddy.NewReplacer(), w, new(caddyhttp.Server))
			prepared.Header["Cookie"] = []string{cookies}
			request := func() *http.Request { // each has its own replacer
				replacer := caddy.NewReplacer()
				replacer.Map(func(string) (any, bool) { return nil, false })
				return prepared.WithContext(context.WithValue(prepared.Context(), caddy.ReplacerCtxKey, replacer))
			}
			took := func(handler caddyhttp.MiddlewareHandler) time.Duration {
				began := time.Now()
				for range 100 {
					clear(w.header)
					if err := handler.ServeHTTP(w, request(), next); err != nil {
						b.Fatal(err)
					}
				}
				return time.Since(began)
			}
			took(one) // the account is in the cache from here on
			took(all)
			var ofOne, ofAll []float64
			for b.Loop() {
				ofOne = append(ofOne, float64(took(one)))
				ofAll = append(ofAll, float64(took(all)))
			}
			b.ReportMetric(median(ofOne)/100, "ns/one")
			b.ReportMetric(median(ofAll)/median(ofOne), "all/one")
		})
	}
}
