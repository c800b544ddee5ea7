package redis

import (
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
)

func startTLS(t *testing.T, settings ...string) *redistest.Server {
	t.Helper()
	s, err := redistest.StartTLS(t.Context(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestUsersBehindTLS(t *testing.T) {
	trusted, stranger, plain := startTLS(t, "user caddy on >s3cret ~user:* &* +@all"), startTLS(t), start(t)
	t.Setenv("SSL_CERT_FILE", trusted.CAFile()) // Go reads it once
	do(t, trusted, `SET user:1 {"id":"1"}`)
	d := open(t, "rediss://caddy:s3cret@"+trusted.Address(), Config{})
	eventually.Holds(t, "changes are noticed", func() bool { return verdict(t, d, "1") == "live" && verdict(t, d, "2") == "gone" && d.Stats().Watching })
	do(t, trusted, "DEL user:1")
	eventually.Holds(t, "the deletion is noticed", func() bool { return verdict(t, d, "1") == "gone" })

	for name, c := range map[string]struct{ url, says string }{
		"untrusted certificate":        {stranger.URL(), "the certificate of Redis is not trusted"},
		"certificate for another host": {strings.Replace(trusted.URL(), "127.0.0.1", "localhost", 1), "the certificate of Redis is not trusted"},
		"skip_verify":                  {stranger.URL() + "?skip_verify=true", ""},
		"TLS to a server without":      {"rediss://" + plain.Address(), "Redis did not answer in time"}, // the server waits for more
		"no TLS to a server with":      {"redis://" + trusted.Address(), "no connection to Redis"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, c.url, Config{})
			got := verdict(t, d, "nobody")
			if c.says == "" && got != "gone" || c.says != "" && (got == "gone" || !strings.Contains(d.Stats().Failure, c.says)) {
				t.Errorf("a missing user is %s: %s", got, d.Stats().Failure)
			}
		})
	}
}
