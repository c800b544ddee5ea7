package integration

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	stalesession "github.com/seed-4adef13c/caddy-stale-session"
)

// FuzzCaddyfile reads options. What is accepted can be written as JSON and read
// back, and no part of it can be wrong in a way that stops a reload half way.
func FuzzCaddyfile(f *testing.F) {
	for _, options := range []string{
		"database {env.DATABASE_URL}\nsecret a b", "users \"my.schema\".\"User\" {\nid id\nmatch email email\ndisabled a b\n}", "cache {\nttl 30s\nsize 5\n}",
		"brake 50% 1m", "poll off", "cleanup {\nevery 1h\ndry_run\n}", "timeout -1s", "cookie", "mode x", "users {\n}\nusers {\n}", "{", "}", "\"", "query <<SQL\nselect\nSQL", "query <<SQL",
	} {
		f.Add(options)
	}
	f.Fuzz(func(t *testing.T, options string) {
		tokens, err := caddyfile.Tokenize([]byte("stale_session {\n"+options+"\n}"), "Caddyfile")
		if err != nil {
			return
		}
		h := new(stalesession.Handler)
		if h.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)) != nil {
			return
		}
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		again := new(stalesession.Handler)
		if err := json.Unmarshal(text, again); err != nil {
			t.Fatal(err)
		}
		if other, err := json.Marshal(again); err != nil || string(other) != string(text) {
			t.Errorf("%q is %s, and then %s (%v)", options, text, other, err)
		}
	})
}
