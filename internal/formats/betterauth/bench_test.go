package betterauth

import (
	"net/http"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

// BenchmarkRead reads a session that is known, of Auth.js without this format and with
// it, and of Better Auth.
func BenchmarkRead(b *testing.B) {
	f := open(b, Module{Secrets: []string{secret}}, nil)
	token, err := mint.V5(secret, "authjs.session-token", map[string]any{"sub": "ada", "exp": minted.Unix() + 1e9})
	if err != nil {
		b.Fatal(err)
	}
	c := newCache("a1", "ada")
	c.ends, c.expires = minted.AddDate(50, 0, 0), minted.AddDate(50, 0, 0)
	const other = "theme=dark; _ga=GA1.2.3; "
	for _, bench := range []struct {
		name, cookies string
		formats       []formats.Format
	}{
		{"authjs", other + "authjs.session-token=" + token, nil},
		{"authjs, with the format", other + "authjs.session-token=" + token, []formats.Format{f}},
		{"better-auth", other + "better-auth.session_token=" + sign(secret, "a1") + "; better-auth.session_data=" + compact(b, secret, c), []formats.Format{f}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			rd, err := session.New(session.Config{Secrets: []string{secret}, Formats: bench.formats})
			if err != nil {
				b.Fatal(err)
			}
			defer rd.Close()
			header := http.Header{"Cookie": {bench.cookies}}
			b.ReportAllocs()
			for b.Loop() {
				var s session.Session
				if rd.Read(header, &s); len(s.Tokens) != 1 {
					b.Fatal(s.Failure)
				}
			}
		})
	}
}
