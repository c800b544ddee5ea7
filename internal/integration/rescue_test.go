package integration

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestAFailureOfTheAppThatAStaleSessionLedTo has accounts cached for an hour
// and nothing that notices changes: only the app's answer does.
func TestAFailureOfTheAppThatAStaleSessionLedTo(t *testing.T) {
	fails := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			w.Header().Set("Etag", `"x"`)
			w.Header().Set("X-Frame-Options", "DENY")
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(status)
			fmt.Fprint(w, "fault")
		}
	}
	page := http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, "Accept": {"text/html"}}
	for name, c := range map[string]struct {
		options []string
		deletes bool
		path    string
		header  http.Header
		app     http.HandlerFunc
		status  int
		body    string
		cleared bool
	}{
		"an API call":           {nil, true, "/api", nil, fails(500), 401, `"error":"stale_session"`, true},
		"a page":                {nil, true, "/page", page, fails(500), 303, "", true},
		"an unavailable app":    {nil, true, "/api", nil, fails(503), 401, `"error":"stale_session"`, true},
		"on an unguarded route": {[]string{"scrub all"}, true, "/open", nil, fails(500), 401, `"error":"stale_session"`, true},
		"answered by an error":  {[]string{"respond error"}, true, "/api", nil, fails(500), 401, "", true},
		"a live session":        {nil, false, "/api", nil, fails(500), 500, "fault", false},
		"another failure":       {nil, true, "/api", nil, fails(409), 409, "fault", false},
		"rescue off":            {[]string{"rescue off"}, true, "/api", nil, fails(500), 500, "fault", false},
		"observed only":         {[]string{"mode observe"}, true, "/api", nil, fails(500), 500, "fault", false},
		"the sign-in page":      {nil, true, "/api/auth/signin", nil, fails(500), 500, "fault", false},
		"after a part was sent": {nil, true, "/api", nil, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "part")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 200, "part", false},
		"streamed, with success": {nil, true, "/api", nil, func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); fmt.Fprint(w, "all is well") }, 200, "all is well", false},
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			app := caddytest.NewApp(t)
			site := []string{"stale_session {", "	poll off", "	cache {", "		ttl 1h", "	}"}
			site[0] = "@guarded path /api* /page*\n\tstale_session @guarded {"
			for _, option := range c.options {
				site = append(site, "	"+option)
			}
			base := caddytest.Start(t, caddytest.Site(append(site, "}", app.Proxy())...))
			header := http.Header{"Cookie": {standardapp.Session(t, "live")}}
			for field, values := range c.header {
				header[field] = values
			}
			if r := caddytest.Do(t, http.MethodGet, base+c.path, header); r.StatusCode != http.StatusOK {
				t.Fatalf("before: status %d", r.StatusCode)
			}
			app.Answer(func(w http.ResponseWriter, r *http.Request) {
				if c.deletes {
					standardapp.Execute(t, database, `delete from "User"`)
				}
				c.app(w, r)
			})
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+c.path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			request.Header = header
			request.Header.Set("Accept-Encoding", "identity")
			response, err := caddytest.Client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body) // it may be broken off
			r := caddytest.Response{Response: response}
			if r.StatusCode != c.status || !strings.Contains(string(body), c.body) || c.status != 500 && strings.Contains(string(body), "fault") && c.body != "fault" {
				t.Errorf("status %d, %q", r.StatusCode, body)
			}
			if cleared := slices.Contains(r.Cleared(), standardapp.CookieName); cleared != c.cleared {
				t.Errorf("cleared: %t", cleared)
			}
			if c.cleared && (r.Header.Get("Content-Encoding") != "" || r.Header.Get("Etag") != "" || r.Header.Get("X-Frame-Options") != "DENY") {
				t.Errorf("header %v", r.Header)
			}
		})
	}
}
