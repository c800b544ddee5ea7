package libraries

import (
	"net/http"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

// BenchmarkRead reads requests with all formats on, whose sessions are known, and
// sessions that are forged.
func BenchmarkRead(b *testing.B) {
	rd := reader(b)
	value := func(text string, err error) string {
		if err != nil {
			b.Fatal(err)
		}
		return text
	}
	seal := value(mint.Seal{Password: password, Expires: time.Now().Add(time.Hour)}.Of(map[string]any{"user": map[string]any{"id": "ada"}}))
	for name, cookies := range map[string]string{
		"no session":   "theme=dark; _ga=GA1.2.1234567890.1234567890; locale=en",
		"iron-session": "session=" + seal + "~2",
		"h3":           "nuxt-session=" + value(mint.Seal{Password: password}.Of(map[string]any{"data": map[string]any{"user": map[string]any{"id": "ada"}}})),
		"Remix":        "__session=" + value(mint.Remix(password, map[string]any{"userId": "ada"})),
		"Auth0":        "__session=" + value(mint.Auth0(password, nil, map[string]any{"user": map[string]any{"sub": "ada"}})),
		"unread":       "other=" + seal,
		"forged":       "session=" + seal[:len(seal)-20] + "AAAAAAAAAA" + seal[len(seal)-10:],
	} {
		b.Run(name, func(b *testing.B) {
			header := http.Header{"Cookie": {cookies}}
			s := new(session.Session)
			b.ReportAllocs()
			for b.Loop() {
				*s = session.Session{}
				rd.Read(header, s)
			}
			if s.TooLarge || (len(s.Tokens) == 1) != (name != "no session" && name != "unread" && name != "forged") {
				b.Errorf("%d tokens, %s", len(s.Tokens), s.Failure)
			}
		})
	}
}
