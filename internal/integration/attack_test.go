package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// raw sends a request line and fields as they are, which Go's client would
// not, and returns the response.
func raw(t *testing.T, base, line string, fields ...string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s\r\nHost: app.test\r\nConnection: close\r\n%s\r\n\r\n", line, strings.Join(fields, "\r\n"))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	response.Body.Close()
	return response
}

// TestAStaleSessionDoesNotGetPastTheMatcher writes guarded paths in every way
// that some app understands. What reaches the app has no session.
func TestAStaleSessionDoesNotGetPastTheMatcher(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("@guarded path /admin* /api/admin*", "stale_session @guarded", app.Proxy()))
	gone := "Cookie: " + standardapp.Session(t, "gone")
	for _, target := range []string{
		"/admin", "/%61dmin", "//admin", "/./admin", "/x/../admin", "/x/%2e%2e/admin", "/ADMIN", "/admin;x", "/;x/admin", "/admin%00",
		"/admin/../x", "/admin/%2e%2e/x", "/api/admin/x%2f..%2f..%2f..%2fy", "/api/admin/x/../../../y", "/api/admin/..%5c..%5c..%5cy",
		`/x\..\admin`, `/\admin`, "/%5cadmin", "//host/admin", "http://host/admin", "http:////host/admin", "/%2561dmin", "/x%252f..%252fadmin",
		"x:http://host/admin", "http:http://host/admin", "x:*", "/api/auth/../admin", "/api/auth/..%2fadmin",
	} {
		response := raw(t, base, "GET "+target+" HTTP/1.1", gone)
		seen := app.Seen()
		if response.StatusCode != http.StatusUnauthorized || len(seen) != 0 {
			t.Errorf("%s: status %d, and the app saw %d requests", target, response.StatusCode, len(seen))
		}
	}
	for _, target := range []string{"/", "/x", "/.well-known/x", "/files/a%2Fb", "/a;b", "/caf%C3%A9", "/x/../y"} {
		if response := raw(t, base, "GET "+target+" HTTP/1.1", gone); response.StatusCode != http.StatusOK || len(app.Seen()) != 1 {
			t.Errorf("%s, which is not guarded: status %d", target, response.StatusCode)
		}
	}
	for _, target := range []string{"/api/auth/session", "//api/auth/session", "/x/../api/auth/session", "/API/auth/session", "/api/%61uth/session", "//host/api/auth/session"} {
		response := raw(t, base, "GET "+target+" HTTP/1.1", gone)
		for _, seen := range app.Seen() {
			if strings.Contains(seen.Header.Get("Cookie"), standardapp.CookieName) {
				t.Errorf("%s: status %d, and the app saw the session, which it renews", target, response.StatusCode)
			}
		}
	}
}

// TestNoHeaderOfAClientIsTrusted sends what some app or proxy heeds. None makes
// a stale session pass, and what Caddy says of a session cannot be forged.
func TestNoHeaderOfAClientIsTrusted(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session /admin*", app.Proxy()+" {", "	header_up X-Session {http.stale_session.verdict}", "	header_up X-User {http.stale_session.subject}", "}"))
	gone := "Cookie: " + standardapp.Session(t, "gone")
	for _, field := range []string{
		"X-Middleware-Subrequest: middleware:middleware:middleware:middleware:middleware", "X-Middleware-Subrequest: src/middleware",
		"X-Original-URL: /public", "X-Rewrite-URL: /public", "X-Forwarded-Uri: /public", "X-Matched-Path: /public", "X-Invoke-Path: /public",
		"X-HTTP-Method-Override: OPTIONS", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https",
		"Http.stale_session.verdict: live", "X-Session: live", "Access-Control-Request-Method: GET", "Purpose: prefetch", "X-Nextjs-Data: 1",
		"Authorization: Bearer garbage", "Cookie: a=b", "Cookie: " + standardapp.CookieName + "=garbage", "Cookie: " + standardapp.CookieName + "=", "Upgrade: websocket",
		"Expect: 100-continue", "Range: bytes=0-0", "Max-Forwards: 0", "Trailer: Cookie",
	} {
		response := raw(t, base, "GET /admin HTTP/1.1", gone, field)
		if seen := app.Seen(); response.StatusCode != http.StatusUnauthorized || len(seen) != 0 {
			t.Errorf("%s: status %d, and the app saw %d requests", field, response.StatusCode, len(seen))
		}
	}
	// Hop-by-hop fields take the session off on the way, which harms nobody.
	for _, field := range []string{"Connection: Cookie", "Connection: close, Cookie, X-Session"} {
		raw(t, base, "GET /admin HTTP/1.1", "Cookie: "+standardapp.Session(t, "live"), field)
	}
	app.Seen()
	for name, c := range map[string]struct{ cookie, verdict, user string }{
		"live":      {standardapp.Session(t, "live"), "live", "live"},
		"anonymous": {"a=b", "anonymous", ""},
		"forged":    {standardapp.CookieName + "=garbage", "invalid", ""},
	} {
		raw(t, base, "GET /admin HTTP/1.1", "Cookie: "+c.cookie, "X-Session: live", "X-User: root", "x-user: admin")
		for _, seen := range app.Seen() {
			if session, user := seen.Header["X-Session"], seen.Header["X-User"]; !slices.Equal(session, []string{c.verdict}) || !slices.Equal(user, []string{c.user}) {
				t.Errorf("%s: the app was told %q of %q", name, session, user)
			}
		}
	}
}

// TestTossedCookies sends several Cookie fields, as a sibling domain or a
// client of its own making can. A good session is never ended by them, and a
// stale one never reaches the app, in both versions of HTTP.
func TestTossedCookies(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	site := strings.Replace(caddytest.Site("stale_session", app.Proxy()), "{\n", "{\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n", 1)
	base := caddytest.Start(t, site)
	live, gone := standardapp.Session(t, "live"), standardapp.Session(t, "gone")
	_, goneToken, _ := strings.Cut(gone, "=")
	_, liveToken, _ := strings.Cut(live, "=")
	half := len(goneToken) / 2
	for name, c := range map[string]struct {
		cookies []string
		status  int
		session bool // whether the app sees it
	}{
		"one that is live":                  {[]string{live}, http.StatusOK, true},
		"one that is stale":                 {[]string{gone}, http.StatusUnauthorized, false},
		"a stale one first":                 {[]string{gone, live}, http.StatusOK, true},
		"a stale one last":                  {[]string{live, gone}, http.StatusOK, true},
		"a stale one in the same field":     {[]string{live + "; " + gone}, http.StatusOK, true},
		"garbage first":                     {[]string{standardapp.CookieName + "=x", live}, http.StatusOK, true},
		"garbage before a stale one":        {[]string{standardapp.CookieName + "=x", gone}, http.StatusUnauthorized, false},
		"the same twice":                    {[]string{live, live}, http.StatusOK, true},
		"a stale one by another name":       {[]string{live, "__Secure-" + gone}, http.StatusOK, true},
		"a stale one of a name with suffix": {[]string{live, standardapp.CookieName + ".x=" + goneToken}, http.StatusOK, true}, // no app reads that alone,
		"chunks of a stale one":             {[]string{standardapp.CookieName + ".0=" + goneToken[:half], standardapp.CookieName + ".1=" + goneToken[half:]}, http.StatusUnauthorized, false},
		"chunks out of order":               {[]string{standardapp.CookieName + ".1=" + goneToken[half:], standardapp.CookieName + ".0=" + goneToken[:half]}, http.StatusUnauthorized, false},
		"chunks with odd numbers":           {[]string{standardapp.CookieName + ".0x1=" + goneToken[:half], standardapp.CookieName + ".7up=" + goneToken[half:]}, http.StatusUnauthorized, false},
		"chunks of two":                     {[]string{standardapp.CookieName + ".0=" + goneToken[:half], standardapp.CookieName + ".1=" + liveToken[half:]}, http.StatusOK, true},
		"a live one and chunks":             {[]string{live, standardapp.CookieName + ".0=" + goneToken[:half], standardapp.CookieName + ".1=" + goneToken[half:]}, http.StatusOK, true},
		"an escaped stale one":              {[]string{standardapp.CookieName + "=" + strings.ReplaceAll(goneToken, ".", "%2E")}, http.StatusUnauthorized, false},
		"a quoted stale one":                {[]string{standardapp.CookieName + `="` + goneToken + `"`}, http.StatusUnauthorized, false},
		"a stale Bearer beside a live one":  {[]string{live, "Bearer"}, http.StatusOK, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, two := range []bool{false, true} {
				header := http.Header{"Sec-Fetch-Mode": {"cors"}}
				for _, cookie := range c.cookies {
					if cookie == "Bearer" {
						header.Set("Authorization", "Bearer "+goneToken)
						continue
					}
					header.Add("Cookie", cookie)
				}
				transport := &http.Transport{Protocols: caddytest.Protocols(two)}
				defer transport.CloseIdleConnections()
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/admin", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				request.Header = header
				response, err := transport.RoundTrip(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				var seen string
				for _, request := range app.Seen() {
					seen += strings.Join(append(request.Header["Cookie"], request.Header["Authorization"]...), "; ")
				}
				if response.StatusCode != c.status || strings.Contains(seen, "session-token") != c.session || (!c.session || !strings.Contains(name, "suffix")) && strings.Contains(seen, goneToken) {
					t.Errorf("HTTP/%d: status %d, the app saw %.200q", response.ProtoMajor, response.StatusCode, seen)
				}
				for _, cookie := range response.Cookies() { // a live session stays in the browser
					if cookie.Name == standardapp.CookieName && slices.Contains(c.cookies, live) {
						t.Errorf("HTTP/%d: %s was cleared", response.ProtoMajor, cookie.Name)
					}
				}
			}
		})
	}
}

// TestHostileSubjects have tokens that name what would break a query, a log
// line or a header. The app itself makes no such ones.
func TestHostileSubjects(t *testing.T) {
	database := standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	log, options := caddytest.NewLog(t)
	site := strings.Replace(caddytest.Site("log", "stale_session", "header X-Subject {http.stale_session.subject}", app.Proxy()+" {", "	header_up X-Subject {http.stale_session.subject}", "}"), caddytest.Options, options, 1)
	base := caddytest.Start(t, site)
	subjects := []string{
		`'; drop table "User"; --`, `live' or 'x'='x`, `{live,x}`, `NULL`, "live\x00", "a\r\nSet-Cookie: x=y", "a\n{\"level\":\"error\",\"msg\":\"forged\"}",
		"\x1b[2J\x1b]0;x\a", "{env.NEXTAUTH_SECRET}", "{http.request.header.Cookie}", "live ", " live", "LIVE", "ｌive", strings.Repeat("x", 5000), "\u202elive", "%00", `\`, `"`,
	}
	for _, subject := range subjects {
		token, err := mint.V4(standardapp.Secret, map[string]any{"sub": subject})
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{}
		for _, cookie := range mint.Chunk(standardapp.CookieName, token, mint.ChunkV4) {
			header["Cookie"] = append(header["Cookie"], cookie.Name+"="+cookie.Value)
		}
		response := caddytest.Do(t, http.MethodGet, base, header)
		if response.StatusCode != http.StatusUnauthorized || len(app.Seen()) != 0 || response.Header.Get("Set-Cookie") == "" || strings.Contains(response.Text, "x=y") {
			t.Errorf("%.40q: status %d, %v", subject, response.StatusCode, response.Header)
		}
		for _, cookie := range response.Cookies() {
			if !strings.HasPrefix(cookie.Name, standardapp.CookieName) && cookie.Name != "stale-session-ended" {
				t.Errorf("%.40q set the cookie %q", subject, cookie.Name)
			}
		}
	}
	if status := caddytest.Ask(t, base, standardapp.Session(t, "live")); status != http.StatusOK {
		t.Errorf("the live user is gone: status %d", status)
	}
	if err := standardapp.Server.Exec(t.Context(), database, `select 1/count(*) from "User" where id = 'live'`); err != nil {
		t.Errorf("the users table: %v", err)
	}
	detected := 0
	for line := range strings.Lines(log.Text(t)) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("a line of the log is no JSON: %.200q", line)
		}
		if entry["msg"] == "forged" || strings.Contains(line, standardapp.Secret) {
			t.Errorf("the log holds %.200q", line)
		}
		if len(line) > 64<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
		if entry["msg"] == "stale session detected" {
			detected++
		}
	}
	if detected == 0 {
		t.Error("nothing was logged")
	}
}

// TestForgedTokensReachNoDatabase sends tokens that look right and are not:
// none leads to a query, so that nobody can ask who exists, by whatever
// difference in time, or wear the database out.
func TestForgedTokensReachNoDatabase(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, o.Config("stale_session {", "	poll off", "}", app.Proxy()))
	caddytest.Ask(t, base, standardapp.Session(t, "live"))
	before := lookups(t, o)
	if before == 0 {
		t.Fatal("lookups are not counted")
	}
	for i := range 500 {
		token, err := mint.V4("another secret", map[string]any{"sub": fmt.Sprint("user ", i)})
		if err != nil {
			t.Fatal(err)
		}
		if status := caddytest.Ask(t, base, standardapp.CookieName+"="+token); status != http.StatusOK { // the app cannot read it either
			t.Fatalf("status %d", status)
		}
	}
	if after := lookups(t, o); after != before {
		t.Errorf("%v lookups, %v before", after, before)
	}
}

// lookups returns how many statements asked for accounts so far.
func lookups(t *testing.T, o *caddytest.Operator) float64 {
	t.Helper()
	var status struct{ Counters telemetry.Totals }
	o.Do(http.MethodGet, "status", nil, &status)
	return status.Counters["lookup_duration_seconds"].Count
}

// TestAnswersAreKeptOutOfCaches looks at every kind of answer: a shared cache
// must never give one person's to another.
func TestAnswersAreKeptOutOfCaches(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	app.Answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("Vary", "Accept-Encoding")
		w.WriteHeader(http.StatusOK)
	})
	base := caddytest.Start(t, caddytest.Site("stale_session /admin* {", "	require_session", "	scrub all", "}", app.Proxy()))
	gone := standardapp.Session(t, "gone")
	_, token, _ := strings.Cut(gone, "=")
	navigates := http.Header{"Sec-Fetch-Mode": {"navigate"}}
	for name, c := range map[string]struct {
		method, path string
		header       http.Header
		status       int
	}{
		"the redirect of a stale session":       {http.MethodGet, "/admin", http.Header{"Cookie": {gone}, "Sec-Fetch-Mode": {"navigate"}}, http.StatusSeeOther},
		"the 401 of a stale session":            {http.MethodGet, "/admin", http.Header{"Cookie": {gone}}, http.StatusUnauthorized},
		"the redirect of a stale Bearer":        {http.MethodGet, "/admin", http.Header{"Authorization": {"Bearer " + token}, "Sec-Fetch-Mode": {"navigate"}}, http.StatusSeeOther},
		"the redirect where a session is asked": {http.MethodGet, "/admin", navigates, http.StatusSeeOther},
		"HEAD":                                  {http.MethodHead, "/admin", http.Header{"Cookie": {gone}, "Sec-Fetch-Mode": {"navigate"}}, http.StatusSeeOther},
		"a scrubbed page":                       {http.MethodGet, "/", http.Header{"Cookie": {gone}}, http.StatusOK},
		"the clear path":                        {http.MethodPost, "/api/auth/clear-session", http.Header{"Cookie": {gone}}, http.StatusOK},
		"another method on the clear path":      {http.MethodGet, "/api/auth/clear-session", nil, http.StatusMethodNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			response := caddytest.Do(t, c.method, base+c.path, c.header)
			if response.StatusCode != c.status || response.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("status %d, Cache-Control %q", response.StatusCode, response.Header["Cache-Control"])
			}
			if vary := strings.Join(response.Header["Vary"], ", "); c.status < http.StatusMethodNotAllowed && !strings.Contains(vary, "Cookie") {
				t.Errorf("Vary %q", vary)
			}
		})
	}
	response := caddytest.Do(t, http.MethodGet, base+"/", nil)
	if response.Header.Get("Cache-Control") != "public, max-age=3600" || response.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("a page without a session was changed: %v", response.Header)
	}
}

// TestOtherSitesCannotClearASession asks for the clear path as another site's
// page does.
func TestOtherSitesCannotClearASession(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	host := strings.TrimPrefix(base, "http://")
	for name, c := range map[string]struct {
		method string
		header http.Header
		status int
	}{
		"the app's own page":            {http.MethodPost, http.Header{"Origin": {base}, "Sec-Fetch-Site": {"same-origin"}}, http.StatusOK},
		"a program":                     {http.MethodPost, nil, http.StatusOK},
		"a form of another site":        {http.MethodPost, http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		"an old browser":                {http.MethodPost, http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		"a sandboxed frame":             {http.MethodPost, http.Header{"Origin": {"null"}}, http.StatusForbidden},
		"a sibling domain":              {http.MethodPost, http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden},
		"a host that ends alike":        {http.MethodPost, http.Header{"Origin": {"http://evil" + host}}, http.StatusForbidden},
		"the host as userinfo":          {http.MethodPost, http.Header{"Origin": {"http://" + host + "@evil.example"}}, http.StatusForbidden},
		"two origins":                   {http.MethodPost, http.Header{"Origin": {base, "https://evil.example"}}, http.StatusForbidden},
		"a link or an image":            {http.MethodGet, http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusMethodNotAllowed},
		"a method that is said to be":   {http.MethodGet, http.Header{"X-Http-Method-Override": {"POST"}}, http.StatusMethodNotAllowed},
		"a preflight of another site":   {http.MethodOptions, http.Header{"Origin": {"https://evil.example"}, "Access-Control-Request-Method": {"POST"}}, http.StatusMethodNotAllowed},
		"a method that browsers refuse": {"TRACE", nil, http.StatusMethodNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{"Cookie": {standardapp.Session(t, "live")}}
			for name, values := range c.header {
				header[name] = values
			}
			response := caddytest.Do(t, c.method, base+"/api/auth/clear-session", header)
			if cleared := len(response.Cleared()) > 0; response.StatusCode != c.status || cleared != (c.status == http.StatusOK) {
				t.Errorf("status %d, cleared %q", response.StatusCode, response.Cleared())
			}
			if response.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("another origin may read it")
			}
		})
	}
}

// TestOtherSitesCannotUseTheAdminAPI asks the admin endpoint as a page in the
// operator's browser does, and by a name that was rebound to it.
func TestOtherSitesCannotUseTheAdminAPI(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	port := caddytest.FreePort(t)
	site := strings.Replace(caddytest.Site("stale_session", app.Proxy()), "admin off", "admin 127.0.0.1:"+port, 1)
	site = strings.Replace(site, "{\n", "{\n\tstorage file_system "+t.TempDir()+"\n", 1)
	base := caddytest.Start(t, site)
	live := standardapp.Session(t, "live")
	for name, c := range map[string]struct {
		host, field string
		ok          bool
	}{
		"a program":                      {"127.0.0.1:" + port, "X: y", true},
		"a form of another site":         {"127.0.0.1:" + port, "Origin: https://evil.example", false},
		"a sandboxed frame":              {"127.0.0.1:" + port, "Origin: null", false},
		"a request without an answer":    {"127.0.0.1:" + port, "Sec-Fetch-Mode: no-cors", false},
		"a name that was rebound":        {"evil.example:" + port, "X: y", false},
		"a rebound name with its origin": {"evil.example:" + port, "Origin: http://evil.example:" + port, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"flush", "revoke", "check", "status"} {
				method, body := http.MethodPost, `{"subject":"nobody"}`
				switch path {
				case "status":
					method = http.MethodGet
				case "revoke":
					body = `{"subject":"nobody","force":true}`
				}
				request, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:"+port+"/stale_session/"+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				request.Host = c.host
				field, value, _ := strings.Cut(c.field, ": ")
				request.Header.Set(field, value)
				request.Header.Set("Content-Type", "text/plain")
				response, err := caddytest.Client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if ok := response.StatusCode == http.StatusOK; ok != c.ok {
					t.Errorf("%s: status %d", path, response.StatusCode)
				}
			}
		})
	}
	if status := caddytest.Ask(t, base, live); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

// TestTheAdminAPIGivesNoSecretAway is about a stolen admin endpoint: who has it
// can end sessions and see who they are, but gets no token, secret or password.
func TestTheAdminAPIGivesNoSecretAway(t *testing.T) {
	standardapp.NewDatabase(t)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, o.Config("stale_session", caddytest.NewApp(t).Proxy()))
	cookie := standardapp.Session(t, "gone")
	caddytest.Ask(t, base, cookie)
	_, token, _ := strings.Cut(cookie, "=")
	for _, said := range []string{
		o.Do(http.MethodGet, "status", nil, nil), o.Do(http.MethodPost, "check", map[string]string{"token": token}, nil),
		o.Do(http.MethodPost, "check", map[string]string{"cookies": cookie}, nil), o.Do(http.MethodPost, "revoke", map[string]string{"subject": "x"}, nil),
		o.Do(http.MethodPost, "check", map[string]string{"token": token, "cookies": token}, nil), o.Do(http.MethodPost, "check", map[string]string{token: token}, nil),
	} {
		if said == "" || strings.Contains(said, standardapp.Secret) || strings.Contains(said, token[len(token)/2:]) && !strings.Contains(said, "unknown field") || strings.Contains(said, "postgres@") {
			t.Errorf("it says %s", said)
		}
	}
}

// TestAnUpgradeOfAStaleSessionIsRefused opens a WebSocket, as a page of another
// site can, too.
func TestAnUpgradeOfAStaleSessionIsRefused(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	_, response, err := websocket.Dial(t.Context(), base, &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {standardapp.Session(t, "gone")}}})
	if err == nil || response == nil || response.StatusCode != http.StatusUnauthorized || len(app.Seen()) != 0 {
		t.Errorf("%v, %v", response, err)
	}
}

// TestAFloodOfNotifications has somebody with a login of the database notify
// all the time: nobody is signed out, and a deleted user is still noticed.
func TestAFloodOfNotifications(t *testing.T) {
	database := standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	standardapp.Execute(t, database, `insert into "User" values ('deleted')`)
	live, deleted := standardapp.Session(t, "live"), standardapp.Session(t, "deleted")
	for _, cookie := range []string{live, deleted} {
		eventually.Holds(t, "both pass", func() bool { return caddytest.Ask(t, base, cookie) == http.StatusOK })
	}
	payload, err := json.Marshal(map[string]any{"ids": []string{"live", strings.Repeat("x", 7000)}})
	if err != nil {
		t.Fatal(err)
	}
	many := `{"ids":["live"` + strings.Repeat(`,"x"`, 1800) + `]}`
	for _, text := range []string{string(payload), many, `{"others":true}`, `{"echo":"x","transaction":"99999999"}`, `{}`, `{"ids":[]}`, `nonsense`, `{"echo":"x"}`} {
		standardapp.Execute(t, database, `select pg_notify('stale_session', '`+text+`' || repeat(' ', (n % 100)::int)) from generate_series(1, 2000) n`)
		if status := caddytest.Ask(t, base, live); status != http.StatusOK {
			t.Errorf("after a flood of %.30s: status %d", text, status)
		}
	}
	standardapp.Execute(t, database, `delete from "User" where id = 'deleted'`)
	eventually.Holds(t, "the deleted user is refused", func() bool { return caddytest.Ask(t, base, deleted) == http.StatusUnauthorized })
	if status := caddytest.Ask(t, base, live); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

// TestTheRedirectCannotBeSplit asks for paths and hosts that would add a header
// or lead to another site.
func TestTheRedirectCannotBeSplit(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	for _, target := range []string{
		"/%0d%0aSet-Cookie:%20x=y", "/a?x=%0d%0aSet-Cookie:%20x=y", "//evil.example/", "///evil.example", `/\evil.example`, "/%5cevil.example", "/%2f%2fevil.example",
		"http://evil.example/a", "http:////evil.example/a", "x:http://evil.example/", "/a?callbackUrl=https://evil.example", "/@evil.example", "/.evil.example",
		"/%09/evil.example", "/%EF%BC%8Fevil.example", "/a/..//evil.example", "/;//evil.example",
	} {
		response := raw(t, base, "GET "+target+" HTTP/1.1", "Cookie: "+standardapp.Session(t, "gone"), "Sec-Fetch-Mode: navigate", "X-Forwarded-Host: evil.example")
		location, err := url.Parse(response.Header.Get("Location"))
		if err != nil || response.StatusCode != http.StatusSeeOther || location.Host != "" || location.Path != "/api/auth/signin" {
			t.Errorf("%s: status %d to %v, %v", target, response.StatusCode, location, err)
			continue
		}
		back := location.Query().Get("callbackUrl")
		if bytes.ContainsAny([]byte(back), "\r\n\\\t") || strings.HasPrefix(back, "//") || back != "" && back[0] != '/' {
			t.Errorf("%s leads back to %q", target, back)
		}
		if cookies := response.Cookies(); len(cookies) != 2 || cookies[0].Name != standardapp.CookieName || cookies[1].Name != "stale-session-ended" {
			t.Errorf("%s sets %v", target, cookies)
		}
	}
}
