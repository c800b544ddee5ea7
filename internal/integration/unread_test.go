package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestASessionThatNothingReadsIsNamedOnce sends sessions of libraries that are not
// configured, and as many names as an attacker likes.
func TestASessionThatNothingReadsIsNamedOnce(t *testing.T) {
	standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	log, _ := caddytest.NewLog(t)
	config := strings.Replace(o.Config("stale_session", caddytest.NewApp(t).Proxy()), "{\n", "{\n\tlog {\n\t\toutput file "+log.File()+"\n\t}\n", 1)
	base := caddytest.Start(t, config)
	seal, err := mint.Seal{Password: password}.Of(map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := mint.Remix(standardapp.Secret, map[string]any{"userId": "live"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, cookies := range []string{"nuxt-session=" + seal, standardapp.Session(t, "live") + "; __session=" + signed} {
			if status := caddytest.Ask(t, base, cookies); status != http.StatusOK {
				t.Errorf("status %d", status)
			}
		}
		caddytest.Do(t, http.MethodGet, base, http.Header{"Authorization": {"Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"}})
	}
	text := log.Text(t)
	for _, want := range []string{
		`"msg":"what looks like a session is read by nothing, so it passes unchecked: set NUXT_SESSION_PASSWORD`, `"name":"nuxt-session","kind":"seal"`,
		`"name":"__session","kind":"signed_json"`, `"name":"Authorization","kind":"jwt"`,
	} {
		if n := strings.Count(text, want); n != 1 {
			t.Errorf("%d lines with %s: %s", n, want, text)
		}
	}
	if strings.Contains(text, seal[:40]) || strings.Contains(text, signed[:20]) {
		t.Errorf("the log has a value: %s", text)
	}
	var status struct {
		Unread []struct{ Name, Kind, Advice string }
	}
	o.Do("GET", "status", nil, &status)
	if len(status.Unread) != 3 || status.Unread[0].Name != "Authorization" || status.Unread[2].Kind != "seal" || status.Unread[1].Advice == "" {
		t.Errorf("status: %+v", status)
	}
	for i := range 100 {
		caddytest.Ask(t, base, fmt.Sprintf("name%d=%s; n%[1]d<>=%[2]s", i, seal))
	}
	if lines := strings.Count(log.Text(t), "read by nothing"); lines > 40 {
		t.Errorf("%d lines", lines)
	}
	if o.Do("GET", "status", nil, &status); len(status.Unread) > 40 {
		t.Errorf("%d names", len(status.Unread))
	}
}
