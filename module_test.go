package stalesession

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/mode"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/sessiontable"
	"github.com/seed-4adef13c/caddy-stale-session/internal/streams"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

const (
	secret = "a secret of the app"
	v4Name = "next-auth.session-token"
	v5Name = "authjs.session-token"
)

// server is the Postgres that the tests of this package share.
var server *pgtest.Server

func TestMain(m *testing.M) {
	accounts.DefaultTimeout = time.Minute // tests run on slow machines
	os.Exit(pgtest.Main(func(s *pgtest.Server) int {
		server = s
		return m.Run()
	}))
}

// users is the schema of a Prisma app, with some users.
const users = `create table "User" (
	id text primary key, email text, "createdAt" timestamp(3) not null default current_timestamp,
	disabled boolean, "sessionsValidAfter" timestamptz);
insert into "User" (id, email) values ('live', 'live@example.com'), ('other', 'other@example.com');
insert into "User" (id, disabled) values ('banned', true);
insert into "User" (id, "sessionsValidAfter") values ('revoked', now());`

// newDatabase creates a database, and sets the environment of the app.
func newDatabase(t testing.TB) string {
	t.Helper()
	name, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, name, users)
	t.Setenv("DATABASE_URL", server.DSN(name))
	t.Setenv("NEXTAUTH_SECRET", secret)
	for _, variable := range []string{"AUTH_SECRET", "AUTH_URL", "NEXTAUTH_URL", "STALE_SESSION_MODE"} {
		t.Setenv(variable, "")
	}
	return name
}

func execute(t testing.TB, database string, commands ...string) {
	t.Helper()
	if err := server.Exec(context.Background(), database, commands...); err != nil {
		t.Fatal(err)
	}
}

// token returns a NextAuth v4 token that was issued an hour ago.
func token(t testing.TB, subject string) string {
	t.Helper()
	made, err := mint.V4(secret, map[string]any{"sub": subject, "iat": time.Now().Add(-time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// token5 returns an Auth.js v5 token that was issued an hour ago.
func token5(t testing.TB, name, subject string) string {
	t.Helper()
	made, err := mint.V5(secret, name, map[string]any{"sub": subject, "iat": time.Now().Add(-time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// guarded is the usual configuration.
const guarded = "@guarded path /admin* /api/admin* /api/upload*\n\tstale_session @guarded"

// browser returns the header of a navigation.
func browser(cookies ...string) http.Header {
	return http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, "Accept": {"text/html"}, "Cookie": cookies}
}

// api returns the header of a fetch.
func api(cookies ...string) http.Header {
	return http.Header{"Sec-Fetch-Mode": {"cors"}, "Sec-Fetch-Dest": {"empty"}, "Accept": {"*/*"}, "Cookie": cookies}
}

// TestEveryTokenLayoutAndAccount shows what the client and the app get for each
// combination of token, layout of the cookies and account.
func TestEveryTokenLayoutAndAccount(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	// Caddy rejects large headers itself: raise its limit.
	base := caddytest.Start(t, strings.Replace(caddytest.Site(guarded, app.Proxy()), "{\n", "{\n\tservers {\n\t\tmax_header_size 1MB\n\t}\n", 1))

	live, gone, banned := token(t, "live"), token(t, "gone"), token(t, "banned")
	half := len(gone) / 2
	expired, err := mint.V4(secret, map[string]any{"sub": "gone", "exp": time.Now().Add(-time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := mint.V4("another secret", map[string]any{"sub": "gone"})
	if err != nil {
		t.Fatal(err)
	}
	nameless, err := mint.V4(secret, map[string]any{"email": "x@y.z"})
	if err != nil {
		t.Fatal(err)
	}
	sprinkle := func(token string) string {
		return token[:len(token)-3] + "!" + token[len(token)-3:] + "="
	}

	const stale, passed = "stale", "passed"
	for name, c := range map[string]struct {
		cookies []string
		bearer  string
		want    string
		cleared []string // cookie names
		sees    []string // Cookie fields that the app gets; nil for all that were sent
		bare    bool     // the app gets no Authorization
	}{
		"no cookie":              {nil, "", passed, nil, nil, false},
		"other cookies":          {[]string{"theme=dark; next-auth.csrf-token=x"}, "", passed, nil, nil, false},
		"live":                   {[]string{v4Name + "=" + live}, "", passed, nil, nil, false},
		"live, v5":               {[]string{v5Name + "=" + token5(t, v5Name, "live")}, "", passed, nil, nil, false},
		"live, odd spacing":      {[]string{"a=b;  " + v4Name + " = " + live + ";c=d"}, "", passed, nil, nil, false},
		"live, chunks":           {[]string{v4Name + ".0=" + live[:half] + "; " + v4Name + ".1=" + live[half:]}, "", passed, nil, nil, false},
		"two live":               {[]string{v4Name + "=" + live + "; " + v4Name + "=" + token(t, "other")}, "", passed, nil, nil, false},
		"live Bearer":            {nil, "Bearer " + live, passed, nil, nil, false},
		"an API key as Bearer":   {nil, "Bearer sk_test_1", passed, nil, nil, false},
		"another app's cookie":   {[]string{v4Name + "=" + foreign}, "", passed, nil, nil, false},
		"expired":                {[]string{v4Name + "=" + expired}, "", passed, nil, nil, false},
		"a database session":     {[]string{v4Name + "=5c5b1f0e-8d3c-4d6e-9a43-3b1f5f4d2c11"}, "", passed, nil, nil, false},
		"garbage":                {[]string{v4Name + "=%%%...; " + v4Name + ".x=\""}, "", passed, nil, nil, false},
		"a token without a user": {[]string{v4Name + "=" + nameless}, "", passed, nil, nil, false},

		"gone":                            {[]string{v4Name + "=" + gone}, "", stale, []string{v4Name}, nil, false},
		"gone, v5":                        {[]string{v5Name + "=" + token5(t, v5Name, "gone")}, "", stale, []string{v5Name}, nil, false},
		"gone, __Secure- v5":              {[]string{"__Secure-" + v5Name + "=" + token5(t, "__Secure-"+v5Name, "gone")}, "", stale, []string{"__Secure-" + v5Name}, nil, false},
		"gone, v5 under the v4 name":      {[]string{v4Name + "=" + token5(t, v4Name, "gone")}, "", stale, []string{v4Name}, nil, false},
		"banned":                          {[]string{v4Name + "=" + banned}, "", stale, []string{v4Name}, nil, false},
		"revoked":                         {[]string{v4Name + "=" + token(t, "revoked")}, "", stale, []string{v4Name}, nil, false},
		"gone, with other cookies":        {[]string{"a=b; " + v4Name + "=" + gone + "; next-auth.csrf-token=x"}, "", stale, []string{v4Name}, nil, false},
		"gone, chunks out of order":       {[]string{v4Name + ".1=" + gone[half:] + "; " + v4Name + ".0=" + gone[:half]}, "", stale, []string{v4Name + ".1", v4Name + ".0"}, nil, false},
		"gone, a lone chunk":              {[]string{v4Name + ".7=" + gone}, "", stale, []string{v4Name + ".7"}, nil, false},
		"gone, halves":                    {[]string{v4Name + "-a=" + gone[:half] + "; " + v4Name + "-b=" + gone[half:]}, "", stale, []string{v4Name + "-a", v4Name + "-b"}, nil, false},
		"gone, quoted":                    {[]string{v4Name + "=\"" + gone + "\""}, "", stale, []string{v4Name}, nil, false},
		"gone, percent-encoded":           {[]string{v4Name + "=%65" + gone[1:]}, "", stale, []string{v4Name}, nil, false},
		"gone, with characters to ignore": {[]string{v4Name + "=" + sprinkle(gone)}, "", stale, []string{v4Name}, nil, false},
		"gone, after garbage":             {[]string{v4Name + "=x; " + v4Name + "=" + gone}, "", stale, nil, nil, false}, // which may be a session, too
		"gone, in several fields":         {[]string{"a=b", v4Name + "=" + gone}, "", stale, []string{v4Name}, nil, false},
		"gone and banned":                 {[]string{v4Name + "=" + gone + "; " + v5Name + "=" + token5(t, v5Name, "banned")}, "", stale, []string{v4Name, v5Name}, nil, false},
		"gone, with another app's":        {[]string{v4Name + "=" + gone + "; " + v5Name + "=" + foreign}, "", stale, []string{v4Name}, nil, false},
		"gone, with a database session":   {[]string{v4Name + "=" + gone + "; " + v5Name + "=5c5b1f0e-8d3c-4d6e-9a43-3b1f5f4d2c11"}, "", stale, []string{v4Name}, nil, false},
		"gone, another app's by its name": {[]string{v4Name + "=" + gone + "; " + v4Name + ".sandbox=opaque"}, "", stale, []string{v4Name}, nil, false},
		"gone Bearer":                     {nil, "Bearer " + gone, stale, nil, nil, false},
		"gone Bearer, percent-encoded":    {nil, "Bearer %65" + gone[1:], stale, nil, nil, false},
		"gone Bearer, an empty cookie":    {[]string{v4Name + "="}, "Bearer " + gone, stale, nil, nil, false},

		"live, then gone under the name": {[]string{"a=b; " + v4Name + "=" + live + "; " + v4Name + "=" + gone}, "", passed, nil, []string{"a=b; " + v4Name + "=" + live}, false},
		"gone, then live under the name": {[]string{v4Name + "=" + gone + "; a=b; " + v4Name + "=" + live}, "", passed, nil, []string{"a=b; " + v4Name + "=" + live}, false},
		"live, gone tossed in":           {[]string{v4Name + "=" + live + "; " + v5Name + "=" + token5(t, v5Name, "gone")}, "", passed, []string{v5Name}, []string{v4Name + "=" + live}, false},
		"gone, with live chunks":         {[]string{v4Name + "=" + gone + "; " + v4Name + ".0=" + live[:half] + "; " + v4Name + ".1=" + live[half:]}, "", passed, []string{v4Name}, []string{v4Name + ".0=" + live[:half] + "; " + v4Name + ".1=" + live[half:]}, false},
		"gone, twice, then live":         {[]string{v4Name + "=" + gone + "; " + v4Name + "=" + banned + "; " + v4Name + "=" + live}, "", passed, nil, []string{v4Name + "=" + live}, false},
		"live Bearer, gone cookie":       {[]string{v4Name + "=" + gone}, "Bearer " + live, passed, []string{v4Name}, []string{}, false},
		"live, gone Bearer":              {[]string{v4Name + "=" + live}, "Bearer " + gone, passed, nil, []string{v4Name + "=" + live}, true},
		"without a user, gone tossed in": {[]string{v4Name + "=" + nameless + "; " + v5Name + "=" + token5(t, v5Name, "gone")}, "", passed, []string{v5Name}, []string{v4Name + "=" + nameless}, false},
		"gone, hidden by 64 KiB":         {[]string{"a=b; " + v4Name + "=" + gone + "; " + v5Name + "=" + strings.Repeat("x", 64<<10)}, "", passed, nil, []string{"a=b"}, false},
		"gone, hidden by 64 cookies":     {[]string{v4Name + "=" + gone + strings.Repeat("; "+v4Name+"-x=y", 64)}, "", passed, nil, []string{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			header := browser(c.cookies...)
			if c.cookies == nil {
				delete(header, "Cookie")
			}
			if c.bearer != "" {
				header.Set("Authorization", c.bearer)
			}
			response := caddytest.Do(t, http.MethodGet, base+"/admin/users?x=1&_rsc=abc&y=%2F", header)
			seen := app.Seen()
			if got := response.Cleared(); !slices.Equal(got, c.cleared) {
				t.Errorf("cleared %q, want %q", got, c.cleared)
			}
			if len(c.cleared) > 0 && (response.Header.Get("Cache-Control") != "no-store" || !strings.Contains(response.Header.Get("Vary"), "Cookie")) {
				t.Errorf("cacheable: %v", response.Header)
			}
			if c.want == stale {
				const location = "/api/auth/signin?callbackUrl=%2Fadmin%2Fusers%3Fx%3D1%26y%3D%252F&error=SessionRequired"
				if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != location || len(seen) != 0 {
					t.Errorf("status %d, location %q, the app got %d requests", response.StatusCode, response.Header.Get("Location"), len(seen))
				}
				return
			}
			if response.StatusCode != http.StatusOK || response.Text != "app" || len(seen) != 1 {
				t.Fatalf("status %d, body %q, the app got %d requests", response.StatusCode, response.Text, len(seen))
			}
			want := c.sees
			if want == nil {
				want = c.cookies
			}
			if got := seen[0].Header.Values("Cookie"); !slices.Equal(got, want) {
				t.Errorf("the app got %q, want %q", got, want)
			}
			if got := seen[0].Header.Get("Authorization"); (got != c.bearer) != c.bare {
				t.Errorf("the app got Authorization %q", got)
			}
		})
	}
}

func TestTheAnswerFitsTheClient(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	gone := v4Name + "=" + token(t, "gone")
	const body = `{"error":"stale_session","message":"Your session is no longer valid. Please sign in again.","signIn":"/auth/signin?error=SessionRequired"}`
	for name, c := range map[string]struct {
		respond, method, path string
		header                http.Header
		status                int
		location, action      string
	}{
		"a page":                    {"auto", "GET", "/admin", browser(gone), 303, "/auth/signin?callbackUrl=%2Fadmin&error=SessionRequired", ""},
		"a form":                    {"auto", "POST", "/admin", browser(gone), 303, "/auth/signin?error=SessionRequired", ""},
		"a page, old browser":       {"auto", "GET", "/admin", http.Header{"Accept": {"text/html,*/*;q=0.8"}, "Cookie": {gone}}, 303, "/auth/signin?callbackUrl=%2Fadmin&error=SessionRequired", ""},
		"fetch":                     {"auto", "POST", "/api/upload", api(gone), 401, "", ""},
		"curl":                      {"auto", "GET", "/admin", http.Header{"Accept": {"*/*"}, "Cookie": {gone}}, 401, "", ""},
		"no Accept":                 {"auto", "GET", "/admin", http.Header{"Cookie": {gone}}, 401, "", ""},
		"HEAD":                      {"auto", "HEAD", "/api/admin", api(gone), 401, "", ""},
		"a Server Action":           {"auto", "POST", "/admin", http.Header{"Next-Action": {"x"}, "Accept": {"text/x-component"}, "Cookie": {gone}}, 401, "", "/auth/signin?callbackUrl=%2Fadmin&error=SessionRequired"},
		"client navigation (RSC)":   {"auto", "GET", "/admin?_rsc=1", http.Header{"Rsc": {"1"}, "Accept": {"*/*"}, "Cookie": {gone}}, 401, "", ""},
		"a WebSocket":               {"auto", "GET", "/admin", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Cookie": {gone}}, 401, "", ""},
		"respond redirect to fetch": {"redirect", "GET", "/admin", api(gone), 303, "/auth/signin?callbackUrl=%2Fadmin&error=SessionRequired", ""},
		"respond json to a page":    {"json", "GET", "/admin", browser(gone), 401, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			base := caddytest.Start(t, caddytest.Site("@guarded path /admin* /api/*\n\tstale_session @guarded {\n\t\tsign_in /auth/signin\n\t\ttimeout 30s\n\t\trespond "+c.respond+"\n\t}", app.Proxy()))
			response := caddytest.Do(t, c.method, base+c.path, c.header)
			if response.StatusCode != c.status || response.Header.Get("Location") != c.location || response.Header.Get("X-Action-Redirect") != c.action {
				t.Errorf("status %d, location %q, action %q", response.StatusCode, response.Header.Get("Location"), response.Header.Get("X-Action-Redirect"))
			}
			if c.status == http.StatusUnauthorized {
				want := body
				if c.action != "" {
					want = strings.Replace(body, "?error", `?callbackUrl=%2Fadmin\u0026error`, 1)
				}
				if c.method == http.MethodHead {
					want = ""
				}
				if response.Text != want || response.Header.Get("Content-Type") != "application/json" {
					t.Errorf("%s: %s", response.Header.Get("Content-Type"), response.Text)
				}
			}
			if got := response.Cleared(); !slices.Equal(got, []string{v4Name}) {
				t.Errorf("cleared %q", got)
			}
			if len(app.Seen()) != 0 {
				t.Error("the app got the request")
			}
		})
	}
	t.Run("a preflight passes without a session", func(t *testing.T) {
		base := caddytest.Start(t, caddytest.Site(guarded, app.Proxy()))
		header := api(gone)
		header.Set("Access-Control-Request-Method", "POST")
		app.Seen()
		response := caddytest.Do(t, http.MethodOptions, base+"/api/upload", header)
		if seen := app.Seen(); response.StatusCode != http.StatusOK || len(seen) != 1 || seen[0].Header["Cookie"] != nil {
			t.Errorf("status %d, the app got %v", response.StatusCode, seen)
		}
	})
	t.Run("handle_errors answers with respond error", func(t *testing.T) {
		base := caddytest.Start(t, caddytest.Site("stale_session {\n\t\trespond error\n\t}", app.Proxy(),
			`handle_errors 401 {`, `	respond "sorry: {http.stale_session.reason} {err.message}" 401`, `}`))
		app.Seen()
		response := caddytest.Do(t, http.MethodGet, base+"/admin", browser(gone))
		if response.StatusCode != 401 || response.Text != "sorry: user_not_found stale session" || !slices.Equal(response.Cleared(), []string{v4Name}) || len(app.Seen()) != 0 {
			t.Errorf("status %d: %q, cleared %q", response.StatusCode, response.Text, response.Cleared())
		}
	})
}

// TestAPageOfAnotherOriginCanReadThe401 has the lines of docs/fronting.md.
func TestAPageOfAnotherOriginCanReadThe401(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	app.Answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://www.example.com")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	})
	base := caddytest.Start(t, caddytest.Site("@page header Origin https://www.example.com", "header @page {",
		"	?Access-Control-Allow-Origin https://www.example.com", "	?Access-Control-Allow-Credentials true", "	?Vary Origin", "}", "stale_session", app.Proxy()))
	for subject, status := range map[string]int{"gone": 401, "live": 200} {
		header := api(v4Name + "=" + token(t, subject))
		header.Set("Origin", "https://www.example.com")
		response := caddytest.Do(t, http.MethodGet, base+"/api/x", header)
		if h := response.Header; response.StatusCode != status || !slices.Equal(h["Access-Control-Allow-Origin"], []string{"https://www.example.com"}) ||
			!slices.Equal(h["Access-Control-Allow-Credentials"], []string{"true"}) {
			t.Errorf("%s: status %d, header %v", subject, response.StatusCode, h)
		}
	}
}

// TestTheAppSaysWhoMayReadThe401 has pages of other origins call an app that allows
// some of them.
func TestTheAppSaysWhoMayReadThe401(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	const page = "https://www.example.com"
	allows := map[string]string{"Access-Control-Allow-Origin": page, "Access-Control-Allow-Credentials": "true"}
	preflight := http.Header{"Origin": {page}, "Access-Control-Request-Method": {"POST"}}
	for name, c := range map[string]struct {
		method  string
		seen    http.Header       // what the app was asked
		status  int               // what it answered
		answers map[string]string // with these fields
		path    string            // of the stale session's request
		origin  string
		reads   bool
	}{
		"a preflight":                      {"OPTIONS", preflight, 204, allows, "", page, true},
		"an answer to somebody":            {"GET", http.Header{"Origin": {page}}, 200, allows, "", page, true},
		"an error that may be read":        {"GET", http.Header{"Origin": {page}}, 404, allows, "", page, true},
		"a preflight that is refused":      {"OPTIONS", preflight, 403, allows, "", page, false},
		"another origin":                   {"OPTIONS", preflight, 204, allows, "", "https://evil.example", false},
		"another path":                     {"OPTIONS", preflight, 204, allows, "/other", page, false},
		"no origin":                        {"OPTIONS", preflight, 204, allows, "", "", false},
		"all origins":                      {"GET", http.Header{"Origin": {page}}, 200, map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true"}, "", page, false},
		"no credentials":                   {"GET", http.Header{"Origin": {page}}, 200, map[string]string{"Access-Control-Allow-Origin": page}, "", page, false},
		"a page without an origin":         {"GET", http.Header{"Origin": {"null"}}, 200, map[string]string{"Access-Control-Allow-Origin": "null", "Access-Control-Allow-Credentials": "true"}, "", "null", false},
		"another origin than the page's":   {"GET", http.Header{"Origin": {"https://evil.example"}}, 200, allows, "", page, false},
		"the same, read by the other page": {"GET", http.Header{"Origin": {"https://evil.example"}}, 200, allows, "", "https://evil.example", false},
	} {
		t.Run(name, func(t *testing.T) {
			app.Answer(func(w http.ResponseWriter, _ *http.Request) {
				for field, value := range c.answers {
					w.Header().Set(field, value)
				}
				w.WriteHeader(c.status)
			})
			path := "/api/" + url.PathEscape(name)
			caddytest.Do(t, c.method, base+path, c.seen)
			header := api(v4Name + "=" + token(t, "gone"))
			if c.origin != "" {
				header.Set("Origin", c.origin)
			}
			h := caddytest.Do(t, http.MethodGet, base+path+c.path, header).Header
			origins, credentials, vary := h["Access-Control-Allow-Origin"], h["Access-Control-Allow-Credentials"], strings.Join(h["Vary"], ", ")
			if c.reads && (!slices.Equal(origins, []string{page}) || !slices.Equal(credentials, []string{"true"}) || vary != "Cookie, Origin") || !c.reads && (origins != nil || credentials != nil) {
				t.Errorf("%q, %q, Vary: %s", origins, credentials, vary)
			}
		})
	}
}

func TestCookiesAreClearedAsTheAppSetThem(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	secure := token5(t, "__Secure-"+v5Name, "gone")
	// The values are hashes.
	const marker = "stale-session-ended=…; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
	const secureMarker = "stale-session-ended=…; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax"
	hashes := regexp.MustCompile(`^(stale-session-ended=)[\w.-]{12,}`)
	for name, c := range map[string]struct {
		options string
		header  http.Header
		want    []string
	}{
		"plain": {
			"",
			http.Header{"Cookie": {v4Name + "=" + token(t, "gone")}},
			[]string{v4Name + "=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; HttpOnly; SameSite=Lax", marker},
		},
		"behind a trusted HTTPS proxy": {
			"",
			http.Header{"Cookie": {v4Name + "=" + token(t, "gone")}, "X-Forwarded-Proto": {"https"}},
			[]string{v4Name + "=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; HttpOnly; Secure; SameSite=Lax", secureMarker},
		},
		"with a prefix, and a domain": {
			"cookie_domain example.com",
			http.Header{"Cookie": {"__Secure-" + v5Name + "=" + secure + "; __Host-" + v5Name + "=" + token5(t, "__Host-"+v5Name, "gone")}},
			[]string{
				"__Secure-" + v5Name + "=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
				"__Secure-" + v5Name + "=; Path=/; Domain=example.com; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
				"__Host-" + v5Name + "=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
				marker,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			site := caddytest.Site("stale_session {\n\t\t"+c.options+"\n\t}", app.Proxy())
			site = strings.Replace(site, "{\n", "{\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1\n\t}\n", 1)
			response := caddytest.Do(t, http.MethodGet, caddytest.Start(t, site)+"/admin", c.header)
			got := response.Header["Set-Cookie"]
			for i, field := range got {
				got[i] = hashes.ReplaceAllString(field, "$1…")
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("set %q,\nwant %q", got, c.want)
			}
		})
	}
}

func TestStrippedRoutes(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	gone, fresh := v4Name+"="+token(t, "gone"), token(t, "live")
	setFresh := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		http.SetCookie(w, &http.Cookie{Name: v4Name, Value: fresh, Path: "/"})
	}
	for name, c := range map[string]struct {
		scrub, path string
		cookie      string
		answer      http.HandlerFunc
		sees        []string
		cleared     []string
		fresh       bool
	}{
		"the session endpoint":          {"auth", "/api/auth/session", "a=b; " + gone, nil, []string{"a=b"}, []string{v4Name}, false},
		"the sign-in page":              {"auth", "/api/auth/signin", gone, nil, nil, []string{v4Name}, false},
		"a public page":                 {"auth", "/", gone, nil, []string{gone}, nil, false},
		"a public page with scrub all":  {"all", "/", gone, nil, nil, []string{v4Name}, false},
		"a static file with scrub all":  {"all", "/_next/static/x.js", gone, nil, nil, []string{v4Name}, false},
		"the session endpoint with off": {"off", "/api/auth/session", gone, nil, []string{gone}, nil, false},
		"a sign-in":                     {"auth", "/api/auth/callback/credentials", gone, setFresh, nil, nil, true},
		"a sign-in over chunks":         {"auth", "/api/auth/callback/credentials", v4Name + ".0=" + token(t, "gone"), setFresh, nil, []string{v4Name + ".0"}, true},
		"a sign-out": {"auth", "/api/auth/signout", gone, func(w http.ResponseWriter, _ *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: v4Name, Path: "/", MaxAge: -1})
		}, nil, []string{v4Name}, false},
		"another app's session": {"all", "/", gone + "; " + v5Name + "=opaque", nil, []string{v5Name + "=opaque"}, []string{v4Name}, false},
		"chunks beneath":        {"all", "/api/auth/session", gone + "; " + v4Name + ".0=" + fresh[:99] + "; " + v4Name + ".1=" + fresh[99:], nil, []string{v4Name + ".0=" + fresh[:99] + "; " + v4Name + ".1=" + fresh[99:]}, []string{v4Name}, false},
		"a live session":        {"all", "/api/auth/session", v4Name + "=" + fresh, setFresh, []string{v4Name + "=" + fresh}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			base := caddytest.Start(t, caddytest.Site("@guarded path /admin*\n\tstale_session @guarded {\n\t\tscrub "+c.scrub+"\n\t}", app.Proxy()))
			app.Answer(c.answer)
			response := caddytest.Do(t, http.MethodGet, base+c.path, browser(c.cookie))
			seen := app.Seen()
			if len(seen) != 1 || !slices.Equal(seen[0].Header["Cookie"], c.sees) {
				t.Errorf("the app got %v, want %q", seen, c.sees)
			}
			if got := response.Cleared(); !slices.Equal(got, c.cleared) {
				t.Errorf("cleared %q, want %q", got, c.cleared)
			}
			setIt := slices.ContainsFunc(response.Cookies(), func(cookie *http.Cookie) bool { return cookie.Value == fresh })
			if setIt != c.fresh {
				t.Errorf("the new session is set: %t, want %t", setIt, c.fresh)
			}
			if len(c.cleared) > 0 && !strings.HasSuffix(c.path, "signout") && response.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control %q", response.Header.Get("Cache-Control"))
			}
		})
	}
}

// TestNoDoorLeadsPastTheGuard sends a stale session through every door of the
// frameworks: the app never sees it, and where code of a guarded page could run,
// the request is answered.
func TestNoDoorLeadsPastTheGuard(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	gone := v4Name + "=" + token(t, "gone")
	for name, c := range map[string]struct {
		method, path string
		header       http.Header
		status       int // 200 if the app answers
	}{
		"a Server Action at the front page":     {"POST", "/", http.Header{"Next-Action": {"0042"}}, 401},
		"at a public page":                      {"POST", "/pub", http.Header{"Next-Action": {"0042"}}, 401},
		"at a page that does not exist":         {"POST", "/nosuch", http.Header{"Next-Action": {"0042"}}, 401},
		"at a file":                             {"POST", "/favicon.ico", http.Header{"Next-Action": {"0042"}}, 401},
		"at the sign-in page":                   {"POST", "/login", http.Header{"Next-Action": {"0042"}}, 200},
		"at an auth route":                      {"POST", "/api/auth/session", http.Header{"Next-Action": {"0042"}}, 200},
		"a Server Action without JavaScript":    {"POST", "/pub", browser(), 200},
		"an Astro form":                         {"POST", "/pub?_action=save", browser(), 303},
		"a server$ of Qwik":                     {"POST", "/pub/?qfunc=x", http.Header{"X-Qrl": {"x"}}, 401},
		"a server function of TanStack":         {"POST", "/_serverFn/ab", http.Header{"X-Tsr-Serverfn": {"true"}}, 401},
		"a server function of SolidStart":       {"POST", "/_server", http.Header{"X-Server-Id": {"x"}}, 401},
		"a remote form of SvelteKit":            {"POST", "/_app/remote/h/save", http.Header{"Content-Type": {"application/x-sveltekit-formdata"}}, 200},
		"an Astro action":                       {"POST", "/_actions/save", nil, 401},
		"an Astro action of the sign-in page":   {"POST", "/_actions/enter", http.Header{"Referer": {"BASE/login"}}, 200},
		"an island of Astro":                    {"GET", "/_server-islands/Cart", nil, 401},
		"data of Next.js":                       {"GET", "/_next/data/b/admin.json", nil, 401},
		"data of SvelteKit":                     {"GET", "/admin/__data.json", nil, 200},
		"data of React Router":                  {"GET", "/admin.data", nil, 204},
		"data of Qwik":                          {"GET", "/admin/q-data.json", nil, 401},
		"data of Nuxt":                          {"GET", "/admin/_payload.json", nil, 401},
		"data of a public page":                 {"GET", "/pub/__data.json", nil, 200},
		"data of the sign-in page":              {"GET", "/login/__data.json", nil, 200},
		"an API that nobody guards":             {"GET", "/api/me", nil, 200},
		"a file":                                {"GET", "/_next/static/x.js", nil, 200},
		"a preflight of a Server Action's page": {"OPTIONS", "/_actions/save", http.Header{"Access-Control-Request-Method": {"POST"}}, 200},
	} {
		for _, scrub := range []string{"", "scrub all"} {
			t.Run(name+" "+scrub, func(t *testing.T) {
				base := caddytest.Start(t, caddytest.Site("@guarded path /admin\n\tstale_session @guarded {\n\t\tsign_in /login\n\t\t"+scrub+"\n\t}", app.Proxy()))
				for _, carrier := range []string{"Cookie", "Authorization"} {
					header := http.Header{carrier: {strings.Replace(gone, v4Name+"=", map[string]string{"Cookie": v4Name + "=", "Authorization": "Bearer "}[carrier], 1)}}
					for field, values := range c.header {
						if field != "Cookie" {
							header[field] = []string{strings.Replace(values[0], "BASE", base, 1)}
						}
					}
					response := caddytest.Do(t, c.method, base+c.path, header)
					if response.StatusCode != c.status {
						t.Errorf("%s: status %d, want %d", carrier, response.StatusCode, c.status)
					}
					for _, seen := range app.Seen() {
						if seen.Header["Cookie"] != nil || seen.Header["Authorization"] != nil {
							t.Errorf("%s: the app sees %v", carrier, seen.Header)
						}
					}
				}
			})
		}
	}
	t.Run("who is signed in, or nobody, calls as before", func(t *testing.T) {
		base := caddytest.Start(t, caddytest.Site("@guarded path /admin*\n\tstale_session @guarded {\n\t\trequire_session\n\t}", app.Proxy()))
		for _, cookie := range []string{v4Name + "=" + token(t, "live"), "theme=dark"} {
			response := caddytest.Do(t, http.MethodPost, base+"/pub", http.Header{"Next-Action": {"0042"}, "Cookie": {cookie}})
			if seen := app.Seen(); response.StatusCode != 200 || len(seen) != 1 || seen[0].Header.Get("Cookie") != cookie {
				t.Errorf("status %d, the app got %v", response.StatusCode, seen)
			}
		}
	})
}

// TestTheFrontPageIsNoSignInPage has a sign-in page of another site.
func TestTheFrontPageIsNoSignInPage(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {\n\t\tsign_in https://id.example.com\n\t}", app.Proxy()))
	response := caddytest.Do(t, http.MethodGet, base+"/", browser(v4Name+"="+token(t, "gone")))
	want := "https://id.example.com?callbackUrl=" + url.QueryEscape(base+"/") + "&error=SessionRequired"
	if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != want || len(app.Seen()) != 0 {
		t.Errorf("status %d to %q", response.StatusCode, response.Header.Get("Location"))
	}
}

// noticedByTheAnswer has a handler that notices a change only by its lookups. One with a watch
// ends a request that takes longer than a second on a busy machine.
const noticedByTheAnswer = "stale_session {\n\t\tpoll off\n\t\tcache {\n\t\t\tttl 1ns\n\t\t}\n\t}"

func TestASessionRenewedAfterItsUserWasDeletedIsDropped(t *testing.T) {
	for name, c := range map[string]struct {
		path    string
		renewed string // subject of the token in the response
		change  string // what happens in the database meanwhile
		dropped bool
	}{
		"deleted":                       {"/api/auth/session", "live", `delete from "User" where id = 'live'`, true},
		"signed out everywhere":         {"/api/auth/session", "live", `update "User" set "sessionsValidAfter" = now() where id = 'live'`, true},
		"no change":                     {"/api/auth/session", "live", `select 1`, false},
		"another user signed in":        {"/admin", "other", `delete from "User" where id = 'live'`, false},
		"the same user signed in again": {"/api/auth/callback/credentials", "live", `update "User" set "sessionsValidAfter" = now() where id = 'live'`, false},
	} {
		t.Run(name, func(t *testing.T) {
			database := newDatabase(t)
			app := caddytest.NewApp(t)
			base := caddytest.Start(t, caddytest.Site(noticedByTheAnswer, app.Proxy()))
			renewed, err := mint.V4(secret, map[string]any{"sub": c.renewed})
			if err != nil {
				t.Fatal(err)
			}
			app.Answer(func(w http.ResponseWriter, _ *http.Request) {
				execute(t, database, c.change)
				http.SetCookie(w, &http.Cookie{Name: "theme", Value: "dark"})
				http.SetCookie(w, &http.Cookie{Name: v4Name, Value: renewed, Path: "/"})
			})
			response := caddytest.Do(t, http.MethodGet, base+c.path, browser(v4Name+"="+token(t, "live")))
			kept := slices.ContainsFunc(response.Cookies(), func(cookie *http.Cookie) bool { return cookie.Value == renewed })
			if kept == c.dropped || (len(response.Cleared()) == 1) != c.dropped {
				t.Errorf("set %q", response.Header["Set-Cookie"])
			}
			if !slices.ContainsFunc(response.Cookies(), func(cookie *http.Cookie) bool { return cookie.Name == "theme" }) {
				t.Error("the app's other cookie is gone")
			}
		})
	}
}

// TestWhatDiesInFlightIsClearedAlone deletes one of two users while both are in the
// app.
func TestWhatDiesInFlightIsClearedAlone(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		renewed string   // subject of the token in the response, by the name v5Name; empty for none
		change  string   // what happens in the database meanwhile
		want    int      // status
		cleared []string // names
		kept    bool     // whether the response sets the renewed token
	}{
		"one of two, and the app fails":          {500, "", `delete from "User" where id = 'live'`, 500, nil, false},
		"both, and the app fails":                {500, "", `delete from "User"`, 401, []string{v4Name, v5Name}, false},
		"the one that is renewed":                {200, "other", `delete from "User" where id = 'other'`, 200, []string{v5Name}, false},
		"the other, beside one that is renewed":  {200, "other", `delete from "User" where id = 'live'`, 200, nil, true},
		"the one that is renewed, and the app's": {200, "gone", `select 1`, 200, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			database := newDatabase(t)
			app := caddytest.NewApp(t)
			base := caddytest.Start(t, caddytest.Site(noticedByTheAnswer, app.Proxy()))
			renewed := token5(t, v5Name, c.renewed)
			app.Answer(func(w http.ResponseWriter, _ *http.Request) {
				execute(t, database, c.change)
				if c.renewed != "" {
					http.SetCookie(w, &http.Cookie{Name: v5Name, Value: renewed, Path: "/"})
					http.SetCookie(w, &http.Cookie{Name: v5Name + ".sandbox", Value: "opaque", Path: "/"})
				}
				w.WriteHeader(c.status)
			})
			response := caddytest.Do(t, http.MethodGet, base+"/admin", api(v4Name+"="+token(t, "live")+"; "+v5Name+"="+token5(t, v5Name, "other")))
			if response.StatusCode != c.want || !slices.Equal(response.Cleared(), c.cleared) {
				t.Errorf("status %d, cleared %q, want %d and %q", response.StatusCode, response.Cleared(), c.want, c.cleared)
			}
			sets := func(value string) bool {
				return slices.ContainsFunc(response.Cookies(), func(cookie *http.Cookie) bool { return cookie.Value == value })
			}
			if sets(renewed) != c.kept || sets("opaque") != (c.renewed != "") {
				t.Errorf("set %q", response.Header["Set-Cookie"])
			}
		})
	}
}

func TestReusedIDs(t *testing.T) {
	for name, c := range map[string]struct {
		schema, options string
		claims          map[string]any
		stale           bool
	}{
		"account newer than the token": {
			`create table users (id serial primary key, created_at timestamptz default now()); insert into users default values`,
			"",
			map[string]any{"sub": "1"},
			true,
		},
		"account older than the token": {
			`create table users (id serial primary key, created_at timestamptz default now()); insert into users (created_at) values (now() - interval '1 day')`,
			"",
			map[string]any{"sub": "1"},
			false,
		},
		"different email": {
			`create table users (id serial primary key, email text); insert into users (email) values ('bob@example.com')`,
			"users {\n\t\t\tmatch email email\n\t\t}",
			map[string]any{"sub": "1", "email": "ada@example.com"},
			true,
		},
		"same email": {
			`create table users (id serial primary key, email text); insert into users (email) values ('Ada@example.com')`,
			"users {\n\t\t\tmatch email email\n\t\t}",
			map[string]any{"sub": "1", "email": "ada@example.com"},
			false,
		},
		"renewed later, but signed in before": {
			`create table users (id serial primary key, created_at timestamptz default now() - interval '10 minutes'); insert into users default values`,
			"issued_at loginAt",
			map[string]any{"sub": "1", "iat": time.Now().Unix(), "loginAt": time.Now().Add(-time.Hour).Unix()},
			true,
		},
		"email as the subject": {
			`create table users (id serial primary key, email text); insert into users (email) values ('bob@example.com')`,
			"subject email\n\t\tusers {\n\t\t\tid email\n\t\t}",
			map[string]any{"sub": "random", "email": "bob@example.com"},
			false,
		},
		"query": {
			`create table people (pid uuid primary key); insert into people values ('7d444840-9dc0-11d1-b245-5ffdce74fad2')`,
			"query \"select pid as id from people where pid = any($1::text[]::uuid[])\"",
			map[string]any{"sub": "7d444840-9dc0-11d1-b245-5ffdce74fad3"},
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			database := newDatabase(t)
			execute(t, database, `drop table "User"`, c.schema)
			app := caddytest.NewApp(t)
			base := caddytest.Start(t, caddytest.Site("stale_session {\n\t\t"+c.options+"\n\t}", app.Proxy()))
			claims := map[string]any{"iat": time.Now().Add(-time.Hour).Unix()}
			for name, value := range c.claims {
				claims[name] = value
			}
			made, err := mint.V4(secret, claims)
			if err != nil {
				t.Fatal(err)
			}
			response := caddytest.Do(t, http.MethodGet, base+"/admin", api(v4Name+"="+made))
			if stale := response.StatusCode == http.StatusUnauthorized; stale != c.stale {
				t.Errorf("status %d, want stale: %t", response.StatusCode, c.stale)
			}
		})
	}
}

// TestSigningOutEverywhere compares sessionsValidAfter with the time of sign-in.
func TestSigningOutEverywhere(t *testing.T) {
	database := newDatabase(t)
	app := caddytest.NewApp(t)
	for name, c := range map[string]struct {
		option string
		claims func(signIn time.Time) map[string]any
		since  time.Duration // the sign-in
		stale  bool
	}{
		"30 s after a sign-in in milliseconds": {
			"issued_at loginAt", func(at time.Time) map[string]any { return map[string]any{"loginAt": at.UnixMilli()} }, 30 * time.Second, true,
		},
		"2 s after one in seconds": {
			"issued_at loginAt", func(at time.Time) map[string]any { return map[string]any{"loginAt": at.Unix()} }, 2 * time.Second, true,
		},
		"30 s before one in milliseconds": {
			"issued_at loginAt", func(at time.Time) map[string]any { return map[string]any{"loginAt": at.UnixMilli()} }, -30 * time.Second, false,
		},
		"in the second of one in seconds": {
			"issued_at loginAt", func(at time.Time) map[string]any { return map[string]any{"loginAt": at.Unix()} }, 0, false,
		},
		"2 minutes after iat": {
			"", func(at time.Time) map[string]any { return map[string]any{"iat": at.Unix()} }, 2 * time.Minute, true,
		},
		"30 s after iat, by clocks that nobody has measured": {
			"", func(at time.Time) map[string]any { return map[string]any{"iat": at.Unix()} }, 30 * time.Second, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := caddytest.Start(t, caddytest.Site("stale_session {\n\t\t"+c.option+"\n\t}", app.Proxy()))
			out := time.Now()
			execute(t, database, `update "User" set "sessionsValidAfter" = '`+out.Format(time.RFC3339Nano)+`' where id = 'live'`)
			claims := map[string]any{"sub": "live", "iat": time.Now().Unix()}
			maps.Copy(claims, c.claims(out.Add(-c.since)))
			made, err := mint.V4(secret, claims)
			if err != nil {
				t.Fatal(err)
			}
			response := caddytest.Do(t, http.MethodGet, base+"/admin", api(v4Name+"="+made))
			if stale := response.StatusCode == http.StatusUnauthorized; stale != c.stale {
				t.Errorf("status %d, want stale: %t", response.StatusCode, c.stale)
			}
		})
	}
}

func TestTheClearPath(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site(guarded, app.Proxy()))
	for name, c := range map[string]struct {
		method string
		header http.Header
		status int
	}{
		"curl":                {"POST", http.Header{}, 200},
		"the app's own page":  {"POST", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {base}}, 200},
		"Sec-Fetch-Site none": {"POST", http.Header{"Sec-Fetch-Site": {"none"}}, 200},
		"cross-site":          {"POST", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		"same-site":           {"POST", http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		"another origin":      {"POST", http.Header{"Origin": {"https://evil.example"}}, 403},
		"origin null":         {"POST", http.Header{"Origin": {"null"}}, 403},
		"GET":                 {"GET", http.Header{}, 405},
		"OPTIONS":             {"OPTIONS", http.Header{"Access-Control-Request-Method": {"POST"}}, 405},
	} {
		t.Run(name, func(t *testing.T) {
			c.header.Set("Cookie", v4Name+".3=x; theme=dark")
			response := caddytest.Do(t, c.method, base+"/api/auth/clear-session", c.header)
			if response.StatusCode != c.status {
				t.Fatalf("status %d, want %d", response.StatusCode, c.status)
			}
			var want []string
			switch c.status {
			case 200:
				if response.Text != `{"success":true,"message":"Session cleared successfully"}` {
					t.Errorf("body %q", response.Text)
				}
				want = []string{
					v5Name, "__Secure-" + v5Name, "__Host-" + v5Name, v4Name, "__Secure-" + v4Name, "__Host-" + v4Name, v4Name + ".3",
				}
			case 405:
				if response.Header.Get("Allow") != "POST" {
					t.Errorf("Allow %q", response.Header.Get("Allow"))
				}
			}
			if got := response.Cleared(); !slices.Equal(got, want) {
				t.Errorf("cleared %q, want %q", got, want)
			}
			if !json.Valid([]byte(response.Text)) || response.Header.Get("Cache-Control") != "no-store" || len(app.Seen()) != 0 {
				t.Errorf("body %q, header %v", response.Text, response.Header)
			}
		})
	}
	t.Run("off", func(t *testing.T) {
		base := caddytest.Start(t, caddytest.Site("stale_session {\n\t\tclear_path off\n\t}", app.Proxy()))
		if response := caddytest.Do(t, http.MethodPost, base+"/api/auth/clear-session", http.Header{}); response.Text != "app" {
			t.Errorf("body %q", response.Text)
		}
	})
}

func TestModesAndPolicies(t *testing.T) {
	gone := v4Name + "=" + token(t, "gone")
	for name, c := range map[string]struct {
		options, environment string
		down                 bool
		cookie               string
		status               int
		cleared              int
	}{
		"enforce":                     {"", "", false, gone, 401, 1},
		"observe":                     {"mode observe", "", false, gone, 200, 0},
		"observe, in the environment": {"", "observe", false, gone, 200, 0},
		"off":                         {"mode off", "", false, gone, 200, 0},
		"off, in the environment":     {"", "off", false, gone, 200, 0},
		"the Caddyfile overrides the environment": {"mode enforce", "off", false, gone, 401, 1},
		"database down, allow":                    {"", "", true, gone, 200, 0},
		"database down, deny":                     {"on_error deny", "", true, gone, 503, 0},
		"database down, deny, not signed in":      {"on_error deny", "", true, "a=b", 200, 0},
		"not signed in":                           {"", "", false, "a=b", 200, 0},
		"not signed in, required":                 {"require_session", "", false, "a=b", 401, 0},
		"unreadable, required":                    {"require_session", "", false, v4Name + "=x", 401, 0},
		"live, required":                          {"require_session", "", false, v4Name + "=" + token(t, "live"), 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			newDatabase(t)
			if c.down {
				t.Setenv("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d")
			}
			t.Setenv("STALE_SESSION_MODE", c.environment)
			app := caddytest.NewApp(t)
			base := caddytest.Start(t, caddytest.Site("stale_session {\n\t\t"+c.options+"\n\t}", app.Proxy()))
			response := caddytest.Do(t, http.MethodGet, base+"/admin", api(c.cookie))
			if response.StatusCode != c.status || len(response.Cleared()) != c.cleared {
				t.Errorf("status %d, cleared %q", response.StatusCode, response.Cleared())
			}
			if retry := response.Header.Get("Retry-After"); (retry != "") != (c.status == 503) {
				t.Errorf("Retry-After %q", retry)
			}
			if seen := app.Seen(); c.status == 200 && (len(seen) != 1 || seen[0].Header.Get("Cookie") != c.cookie) {
				t.Errorf("the app got %v", seen)
			}
			if response := caddytest.Do(t, http.MethodGet, base+"/api/auth/signin", api(c.cookie)); response.StatusCode != 200 {
				t.Errorf("the sign-in page: status %d", response.StatusCode)
			}
		})
	}
}

func TestADetectionIsLogged(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	log, options := caddytest.NewLog(t)
	site := strings.Replace(caddytest.Site("route {", "stale_session", "header X-Verdict \"{http.stale_session.verdict} {http.stale_session.reason} {http.stale_session.subject}\"", app.Proxy(), "}"), caddytest.Options, options, 1)
	base := caddytest.Start(t, site)
	if got := caddytest.Do(t, http.MethodGet, base+"/x", api(v4Name+"="+token(t, "live"))).Header.Get("X-Verdict"); got != "live  live" {
		t.Errorf("placeholders %q", got)
	}
	if got := caddytest.Do(t, http.MethodGet, base+"/x", api("a=b")).Header.Get("X-Verdict"); got != "anonymous" {
		t.Errorf("placeholders %q", got)
	}
	caddytest.Do(t, http.MethodGet, base+"/admin?secret=1", api(v4Name+"="+token(t, "banned")))
	var lines []map[string]any
	for line := range strings.Lines(log.Text(t)) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		if fields["msg"] == "stale session detected" {
			lines = append(lines, fields)
		}
	}
	if len(lines) != 1 {
		t.Fatalf("%d lines, want 1", len(lines))
	}
	for field, want := range map[string]any{
		"level": "warn", "logger": "http.handlers.stale_session", "reason": "user_disabled", "subject": "banned", "method": "GET",
		"uri": "/admin", "client_ip": "127.0.0.1", "source": "database", "where": "guarded", "mode": "enforce",
	} {
		if lines[0][field] != want {
			t.Errorf("%s is %v, want %v", field, lines[0][field], want)
		}
	}
}

func TestTheCallbackURLIsFromBeforeARewrite(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("rewrite /dashboard* /admin{uri}", guarded, app.Proxy()))
	response := caddytest.Do(t, http.MethodGet, base+"/dashboard?tab=1", browser(v4Name+"="+token(t, "gone")))
	if got := response.Header.Get("Location"); got != "/api/auth/signin?callbackUrl=%2Fdashboard%3Ftab%3D1&error=SessionRequired" {
		t.Errorf("location %q", got)
	}
}

func TestChangesAreNoticedWhenCachedAccountsExpire(t *testing.T) {
	database := newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {\n\t\tcache {\n\t\t\tttl 50ms\n\t\t}\n\t}", app.Proxy()))
	live := api(v4Name + "=" + token(t, "live"))
	if response := caddytest.Do(t, http.MethodGet, base+"/admin", live); response.StatusCode != 200 {
		t.Fatalf("status %d", response.StatusCode)
	}
	execute(t, database, `truncate "User"`)
	eventually.Holds(t, "the session is stale", func() bool {
		return caddytest.Do(t, http.MethodGet, base+"/admin", live).StatusCode == 401
	})
	execute(t, database, `insert into "User" (id) values ('live')`)
	eventually.Holds(t, "the session is live again", func() bool {
		return caddytest.Do(t, http.MethodGet, base+"/admin", live).StatusCode == 200
	})
}

// A user has a page open while the database is reseeded with the same ids, and
// signs in again at once.
func TestSigningInAgainRightAfterAReseedWorks(t *testing.T) {
	database := newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site(guarded, app.Proxy()))
	execute(t, database, `truncate "User"`)
	old := api(v4Name + "=" + token(t, "live"))
	for range 3 {
		if response := caddytest.Do(t, http.MethodGet, base+"/admin", old); response.StatusCode != 401 {
			t.Fatalf("status %d", response.StatusCode)
		}
	}
	execute(t, database, `insert into "User" (id, disabled) values ('live', true)`)
	if response := caddytest.Do(t, http.MethodGet, base+"/admin", api(v4Name+"="+token(t, "banned"))); response.StatusCode != 401 {
		t.Fatalf("status %d", response.StatusCode)
	}
	execute(t, database, `update "User" set disabled = false`)
	fresh, err := mint.V4(secret, map[string]any{"sub": "live"})
	if err != nil {
		t.Fatal(err)
	}
	app.Answer(func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: v4Name, Value: fresh, Path: "/"})
	})
	response := caddytest.Do(t, http.MethodPost, base+"/api/auth/callback/credentials", old)
	if len(response.Cleared()) != 0 || len(response.Cookies()) != 1 || response.Cookies()[0].Value != fresh {
		t.Errorf("the sign-in set %q", response.Header["Set-Cookie"])
	}
	if response := caddytest.Do(t, http.MethodGet, base+"/admin", api(v4Name+"="+fresh)); response.StatusCode != 200 {
		t.Errorf("after the sign-in: status %d", response.StatusCode)
	}
}

func TestInsideHandleBlocks(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site(
		"handle /admin* {", "	stale_session", "	"+app.Proxy(), "}",
		"handle {", "	stale_session /nothing", "	"+app.Proxy(), "}"))
	gone := browser(v4Name + "=" + token(t, "gone"))
	for path, c := range map[string]struct {
		status int
		sees   []string // nil if the app gets no request
	}{
		"/admin":            {303, nil},
		"/":                 {200, []string{}},
		"/api/auth/session": {200, []string{}},
		"/api/auth/signin":  {200, []string{}},
	} {
		response := caddytest.Do(t, http.MethodGet, base+path, gone)
		seen := app.Seen()
		if response.StatusCode != c.status || (len(seen) == 1) != (c.sees != nil) || len(seen) == 1 && !slices.Equal(seen[0].Header["Cookie"], c.sees) {
			t.Errorf("%s: status %d, the app got %v", path, response.StatusCode, seen)
		}
	}
}

func TestForwardAuthComesAfter(t *testing.T) {
	newDatabase(t)
	app, gate := caddytest.NewApp(t), caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("forward_auth "+gate.Listener.Addr().String()+" {", "	uri /check", "}", "stale_session", app.Proxy()))
	if response := caddytest.Do(t, http.MethodGet, base+"/x", api(v4Name+"="+token(t, "gone"))); response.StatusCode != 401 || len(gate.Seen()) != 0 {
		t.Errorf("status %d, or the auth server got the request", response.StatusCode)
	}
	if response := caddytest.Do(t, http.MethodGet, base+"/x", api(v4Name+"="+token(t, "live"))); response.StatusCode != 200 || len(gate.Seen()) != 1 {
		t.Errorf("status %d, or the auth server did not get the request", response.StatusCode)
	}
}

// recorder is a handler of Caddy's events app.
type recorder struct{}

var recorded = make(chan map[string]any, 16)

func (recorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.recorder", New: func() caddy.Module { return recorder{} }}
}

func (recorder) Handle(_ context.Context, event caddy.Event) error {
	recorded <- event.Data
	return nil
}

func (recorder) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func init() { caddy.RegisterModule(recorder{}) }

func TestADetectionIsAnEvent(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	site := strings.Replace(caddytest.Site("stale_session", app.Proxy()), "{\n", "{\n\tevents {\n\t\ton stale_session.detected recorder\n\t}\n", 1)
	base := caddytest.Start(t, site)
	caddytest.Do(t, http.MethodGet, base+"/admin", api(v4Name+"="+token(t, "live")))
	caddytest.Do(t, http.MethodGet, base+"/admin?x", api(v4Name+"="+token(t, "gone")))
	// Event handlers run concurrently.
	eventually.Holds(t, "the event arrives", func() bool { return len(recorded) > 0 })
	if len(recorded) != 1 {
		t.Fatalf("%d events, want 1", len(recorded))
	}
	event := <-recorded
	for field, want := range map[string]any{"reason": "user_not_found", "subject": "gone", "uri": "/admin", "method": "GET", "client_ip": "127.0.0.1", "where": "guarded", "mode": "enforce"} {
		if event[field] != want {
			t.Errorf("%s is %v, want %v", field, event[field], want)
		}
	}
}

// Caddy calls CaddyModule when an event is emitted, possibly after a reload. With a
// value receiver, that copies the handler, which races with its cleanup.
func TestCaddyModuleHasAPointerReceiver(t *testing.T) {
	checked := 0
	for _, id := range caddy.Modules() {
		if !strings.Contains(id, "stale_session") {
			continue
		}
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Fatal(err)
		}
		value := reflect.ValueOf(info.New()).Elem()
		if _, copied := value.Interface().(caddy.Module); copied {
			t.Errorf("%s: CaddyModule has a value receiver", id)
		}
		checked++
	}
	if checked < 5 {
		t.Errorf("%d modules, want the handlers, the admin API and the directories", checked)
	}
}

// The tests of this package are built without the package redis, as plain xcaddy
// builds Caddy.
func TestACaddyWithoutRedisSaysHowToGetIt(t *testing.T) {
	newDatabase(t)
	t.Setenv("REDIS_URL", "redis://:hunter2@127.0.0.1:1")
	t.Setenv("BETTER_AUTH_SECRET", "a secret of Better Auth, which is long")
	for name, c := range map[string]struct{ options, says string }{
		"users":                 {"directory redis", "directory redis: this Caddy is built without Redis"},
		"revocations":           {"revocations {\n\tredis {env.REDIS_URL}\n}", "revocations: this Caddy is built without Redis"},
		"sessions":              {"format better_auth {\n\tredis {env.REDIS_URL}\n}", "this Caddy is built without Redis"},
		"nothing in Redis":      {"", ""},
		"another that is not":   {"directory ldap", "ldap"},
		"users, with a typo":    {"directory redsi", "redsi"},
		"revocations, no Redis": {"revocations {\n\tname shop\n}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := caddytest.Load(caddytest.Site("stale_session {\n" + c.options + "\n}"))
			if err == nil {
				_ = caddy.Stop()
			}
			switch hint := "`--with github.com/seed-4adef13c/caddy-stale-session/redis`"; {
			case (err != nil) != (c.says != ""), err != nil && !strings.Contains(err.Error(), c.says):
				t.Errorf("error %v, want %q", err, c.says)
			case err != nil && strings.Contains(err.Error(), hint) != strings.Contains(c.says, "without Redis"):
				t.Errorf("error %v, which should say %s if Redis is used, and only then", err, hint)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("a password is in the error: %v", err)
			}
		})
	}
	config := new(caddy.Config)
	text := `{"admin":{"disabled":true},"apps":{"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"stale_session","directory":{"module":"redis"}}]}]}}}}}`
	if err := json.Unmarshal([]byte(text), config); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(config); err == nil || !strings.Contains(err.Error(), "directory redis: this Caddy is built without Redis") {
		t.Errorf("in JSON: error %v", err)
	}
}

func TestALikelyMisconfigurationIsLoggedOnce(t *testing.T) {
	nameless, err := mint.V4(secret, map[string]any{"email": "a@b.c"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		secret, cookie, says string
	}{
		"wrong secret":  {"another secret", v4Name + "=" + token(t, "live"), "is the secret the app's own"},
		"wrong claim":   {secret, v4Name + "=" + nameless, "such as `subject email`"},
		"wrong subject": {secret, v4Name + "=" + token(t, "random"), "no session so far names a user"},
	} {
		t.Run(name, func(t *testing.T) {
			newDatabase(t)
			t.Setenv("NEXTAUTH_SECRET", c.secret)
			app := caddytest.NewApp(t)
			log, options := caddytest.NewLog(t)
			base := caddytest.Start(t, strings.Replace(caddytest.Site("stale_session", app.Proxy()), caddytest.Options, options, 1))
			for range 3 {
				caddytest.Do(t, http.MethodGet, base+"/admin", api(c.cookie))
			}
			if n := strings.Count(log.Text(t), c.says); n != 1 {
				t.Errorf("logged %d times, want once: %s", n, log.Text(t))
			}
		})
	}
}

// TestTheBasePathIsNoticed has apps whose auth routes are below different paths, in
// a configuration that names none.
func TestTheBasePathIsNoticed(t *testing.T) {
	for name, c := range map[string]struct {
		options string
		base    string   // of the app
		before  []string // what is opened before, by somebody who is not signed in
		ends    string
	}{
		"Next.js":                             {"", "/api/auth", nil, "/api/auth/signin"},
		"Express, SvelteKit and Qwik":         {"", "/auth", nil, "/auth/signin"},
		"the same, seen by the session":       {"", "/auth", []string{"/auth/session"}, "/auth/signin"},
		"elsewhere, seen by the session":      {"", "/shop/auth", []string{"/shop/auth/session"}, "/shop/auth/signin"},
		"elsewhere, as configured":            {"auth_path /shop/auth", "/shop/auth", nil, "/shop/auth/signin"},
		"two apps, of which one is elsewhere": {"auth_path /shop/auth /auth", "/shop/auth", []string{"/auth/session"}, "/shop/auth/signin"},
	} {
		t.Run(name, func(t *testing.T) {
			newDatabase(t)
			app := caddytest.NewApp(t)
			app.Answer(func(w http.ResponseWriter, r *http.Request) {
				action, isAuth := strings.CutPrefix(r.URL.Path, c.base+"/")
				switch {
				case isAuth && slices.Contains([]string{"session", "csrf", "signin"}, action):
					http.SetCookie(w, &http.Cookie{Name: "authjs.csrf-token", Value: "x", Path: "/"})
				case r.URL.Path != "/admin":
					http.NotFound(w, r)
				}
			})
			base := caddytest.Start(t, caddytest.Site("stale_session {\n\t\t"+c.options+"\n\t}", app.Proxy()))
			for _, path := range c.before {
				caddytest.Do(t, http.MethodGet, base+path, nil)
			}
			app.Seen()
			gone := token(t, "gone")
			for range 2 {
				browser := newBrowser(t, base)
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/admin", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Sec-Fetch-Mode", "navigate")
				request.Header.Set("Cookie", v4Name+"="+gone)
				response, err := browser.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.Request.URL.Path != c.ends || response.StatusCode != http.StatusOK {
					t.Errorf("ends at %s with %d", response.Request.URL, response.StatusCode)
				}
				if got := response.Request.URL.Query().Get("callbackUrl"); got != "/admin" {
					t.Errorf("the way back is %q", got)
				}
			}
			// The session endpoint does not renew the session.
			app.Seen()
			caddytest.Do(t, http.MethodGet, base+c.base+"/session", api(v4Name+"="+gone))
			if seen := app.Seen(); len(seen) != 1 || seen[0].Header["Cookie"] != nil {
				t.Errorf("the app sees %v", seen)
			}
		})
	}
}

// TestAnAppThatDoesNotKnowItsAddress redirects from its sign-in page to where only
// Caddy reaches it.
func TestAnAppThatDoesNotKnowItsAddress(t *testing.T) {
	for name, c := range map[string]struct {
		host, location, query string
		says                  bool
	}{
		"a redirect to it":               {"app.example.test", "{app}/login", "", true},
		"on this machine":                {"localhost", "{app}/login", "", false},
		"a container's name":             {"app.example.test", "http://web:3000/login", "", true},
		"a way back to it":               {"app.example.test", "/login?callbackUrl=http%3A%2F%2Flocalhost%3A3000%2Fadmin", "?callbackUrl=/admin", true},
		"a way back that somebody asked": {"app.example.test", "/login?callbackUrl=http%3A%2F%2Flocalhost%3A3000", "?callbackUrl=http://localhost:3000", false},
		"another site":                   {"app.example.test", "https://id.example.test/login", "", false},
	} {
		host, says := c.host, c.says
		newDatabase(t)
		app := caddytest.NewApp(t)
		app.Answer(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, strings.ReplaceAll(c.location, "{app}", app.URL), http.StatusFound)
		})
		log, options := caddytest.NewLog(t)
		base := caddytest.Start(t, strings.Replace(caddytest.Site("stale_session", app.Proxy()), caddytest.Options, options, 1))
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/auth/signin"+c.query, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := caddytest.Client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if strings.Contains(log.Text(t), "the app sends people who sign in to its own address instead of this site's: set AUTH_URL") != says {
			t.Errorf("%s: said %t", name, !says)
		}
	}
}

// TestThePathOfTheAppIsNoAuthRoute has AUTH_URL with the path of the whole app.
func TestThePathOfTheAppIsNoAuthRoute(t *testing.T) {
	newDatabase(t)
	t.Setenv("AUTH_URL", "https://app.example.com/shop")
	app := caddytest.NewApp(t)
	log, options := caddytest.NewLog(t)
	base := caddytest.Start(t, strings.Replace(caddytest.Site("stale_session", app.Proxy()), caddytest.Options, options, 1))
	for path, want := range map[string]int{"/shop/admin": 401, "/shop": 401, "/shop/session": 200, "/shop/callback/x": 200} {
		if response := caddytest.Do(t, http.MethodGet, base+path, api(v4Name+"="+token(t, "gone"))); response.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, response.StatusCode, want)
		}
	}
	if !strings.Contains(log.Text(t), "AUTH_URL has a path that does not end in /auth") {
		t.Error("nothing is said of it")
	}
}

// table is a users table behind a gate.
type table struct {
	mu             sync.Mutex
	users          map[string]directories.Account
	commits, epoch int
	ahead          time.Duration // its clock
	server         string        // that is watched
	away           error         // why lookups fail
	asked          int           // lookups
}

func (*table) String() string { return "a table" }

func (d *table) Lookup(_ context.Context, queries []directories.Query) ([]directories.Account, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	found := make([]directories.Account, len(queries))
	for i, q := range queries {
		found[i] = d.users[string(q.Subject)]
	}
	return found, d.away
}

func (d *table) Watch(context.Context, func(...string)) (directories.Watch, error) { return d, nil }

func (d *table) Wait(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (d *table) Read(context.Context) (directories.Reading, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return directories.Reading{Value: strconv.Itoa(d.commits), Epoch: strconv.Itoa(d.epoch), Clock: time.Now().Add(d.ahead), Server: d.server}, nil
}

func (*table) Close() error { return nil }

// created commits a user who is created now, after a reset or not.
func (d *table) created(subject string, reset bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.commits++; reset {
		d.epoch++
	}
	d.users[subject] = directories.Account{Exists: true, CreatedAt: time.Now().Add(d.ahead)}
}

// commit commits a change.
func (d *table) commit(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
	d.commits++
}

// set changes an account without a commit that the gate shows.
func (d *table) set(subject string, account directories.Account) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users[subject] = account
}

// lookups returns how many lookups there were.
func (d *table) lookups() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// status returns how a handler whose secret is "a secret" answers an API client with a
// session of claims.
func status(t *testing.T, h *Handler, claims map[string]any) int {
	t.Helper()
	made, err := mint.V4("a secret", claims)
	if err != nil {
		t.Fatal(err)
	}
	return statusOf(t, h, v4Name+"="+made)
}

// statusOf is status for a Cookie field, and an app that sets cookies.
func statusOf(t *testing.T, h *Handler, cookies string, sets ...string) int {
	t.Helper()
	return statusAfter(t, h, 0, cookies, sets...)
}

// statusAfter is statusOf for an app that takes some time.
func statusAfter(t *testing.T, h *Handler, take time.Duration, cookies string, sets ...string) int {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/admin", http.NoBody)
	r.Header.Set("Cookie", cookies)
	r.Header.Set("Accept", "application/json")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	if err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		time.Sleep(take)
		if len(sets) > 0 {
			w.Header()["Set-Cookie"] = sets
		}
		w.WriteHeader(http.StatusOK)
		return nil
	})); err != nil {
		t.Error(err)
	}
	return w.Code
}

// TestWhatAnotherServerThanTheWatchedOneSaidEndsNoSessionLater has accounts that end a
// session, until they change: the gate does not show that.
func TestWhatAnotherServerThanTheWatchedOneSaidEndsNoSessionLater(t *testing.T) {
	t.Parallel()
	const secret = "a secret"
	for name, ends := range map[string]directories.Account{
		"gone":         {Server: "other"},
		"disabled":     {Exists: true, Disabled: true, Server: "other"},
		"newer":        {Exists: true, CreatedAt: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), Server: "other"},
		"signed out":   {Exists: true, ValidAfter: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), Server: "other"},
		"another user": {Exists: true, Matched: [][]byte{[]byte("b@example.com")}, Server: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				live := directories.Account{Exists: true, Matched: [][]byte{[]byte("a@example.com")}, Server: "other"}
				if ends.Matched == nil {
					ends.Matched = live.Matched
				}
				users := &table{users: map[string]directories.Account{"1": ends}, server: "watched"}
				h := newHandler(t, accounts.Open(users, accounts.Config{}), new(blackHole), secret, time.Second)
				reader, err := session.New(session.Config{Secrets: []string{secret}, Match: []string{"email"}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(reader.Close)
				h.validator.reader = reader
				time.Sleep(time.Millisecond) // the time 0 of an engine stands for none
				claims := map[string]any{"sub": "1", "email": "a@example.com", "iat": time.Now().Add(-time.Hour).Unix()}
				for range 3 {
					if got := status(t, h, claims); got != http.StatusUnauthorized {
						t.Fatalf("status %d", got)
					}
					time.Sleep(time.Millisecond)
				}
				users.set("1", live)
				if got := status(t, h, claims); got != http.StatusOK {
					t.Errorf("once it is live again: status %d", got)
				}
				time.Sleep(time.Millisecond)
				before := users.lookups()
				if got := status(t, h, claims); got != http.StatusOK || users.lookups() != before {
					t.Errorf("a live session: status %d, %d lookups", got, users.lookups()-before)
				}
			})
		})
	}
}

// TestHowOftenARequestAllocates pins what a request with a known session allocates.
// Nothing runs beside it.
func TestHowOftenARequestAllocates(t *testing.T) {
	const secret = "a secret"
	users := &table{users: map[string]directories.Account{"live": {Exists: true}}}
	h := newHandler(t, accounts.Open(users, accounts.Config{TTL: time.Hour}), new(blackHole), secret, time.Minute)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		return nil
	})
	for name, c := range map[string]struct {
		subject, accept string
		status          int
		allocations     float64 // at most
	}{
		"live":                {"live", "text/html", http.StatusOK, 5}, // 3 of them because its streams can be ended
		"stale, in JSON":      {"gone", "application/json", http.StatusUnauthorized, 40},
		"stale, a navigation": {"gone", "text/html", http.StatusSeeOther, 40},
	} {
		made, err := mint.V4(secret, map[string]any{"sub": c.subject, "iat": time.Now().Add(-time.Hour).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/admin?tab=users", http.NoBody)
		r.Header.Set("Cookie", "theme=dark; "+v4Name+"="+made)
		r.Header.Set("Accept", c.accept)
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		allocations := math.Inf(1)
		for range 50 { // with the race detector, a sync.Pool drops some of its values
			if allocations <= c.allocations {
				break
			}
			allocations = min(allocations, testing.AllocsPerRun(20, func() {
				clear(w.Header())
				w.Body.Reset()
				if err := h.ServeHTTP(w, r, next); err != nil {
					t.Error(err)
				}
			}))
		}
		if w.Code != c.status || allocations > c.allocations {
			t.Errorf("%s: status %d, %.0f allocations", name, w.Code, allocations)
		}
	}
}

// TestASessionThatWasNeverSeenEndsAfterAReset is about a session that another Caddy
// has seen, if any: this one can compare nothing but its iat.
func TestASessionThatWasNeverSeenEndsAfterAReset(t *testing.T) {
	t.Parallel()
	const secret, cookie = "a secret", "next-auth.session-token"
	token := func(subject string, at time.Time) string {
		made, err := mint.V4(secret, map[string]any{"sub": subject, "iat": at.Unix()})
		if err != nil {
			t.Error(err)
		}
		return cookie + "=" + made
	}
	for name, c := range map[string]struct {
		polls         int // of an open tab
		database, app time.Duration
		reset         bool
		age           time.Duration // of the session when its account is created
		want          int
	}{
		"after a reset":                            {9, 0, 0, true, 20 * time.Second, 401},
		"after a reset, with clocks that differ":   {9, 10 * time.Second, -10 * time.Second, true, 35 * time.Second, 401},
		"without a reset":                          {9, 0, 0, false, 20 * time.Second, 200},
		"a sign-up after a reset":                  {9, 0, 0, true, 0, 200},
		"a sign-up with clocks that differ":        {9, 10 * time.Second, -10 * time.Second, true, 0, 200},
		"after a reset, by clocks nobody measured": {2, 0, 0, true, 20 * time.Second, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				users := &table{users: map[string]directories.Account{"1": {Exists: true, CreatedAt: time.Now().Add(-time.Hour)}}, ahead: c.database}
				h := newHandler(t, accounts.Open(users, accounts.Config{}), new(blackHole), secret, time.Second)
				get := func(cookies string, sets ...string) int {
					return statusAfter(t, h, 50*time.Millisecond, cookies, sets...)
				}
				time.Sleep(time.Millisecond) // the time 0 of an engine stands for none
				tab := token("1", time.Now().Add(c.app))
				for range c.polls {
					if got := get(tab, token("1", time.Now().Add(c.app))); got != http.StatusOK {
						t.Fatalf("before: status %d", got)
					}
					time.Sleep(10*time.Second + 77*time.Millisecond)
				}
				users.created("2", c.reset)
				session := token("2", time.Now().Add(c.app-c.age))
				time.Sleep(time.Second) // it is noticed
				if got := get(session); got != c.want {
					t.Errorf("status %d, want %d", got, c.want)
				}
			})
		})
	}
}

// Whoever polls such an app would make its clock seem to be behind by up to a minute,
// and revoked sessions that this node has not seen before seem to be new.
func TestAnAppThatKeepsTheIatSaysNothingOfItsClock(t *testing.T) {
	t.Parallel()
	const secret = "a secret"
	token := func(subject string, issued, expires time.Time) string {
		made, err := mint.V4(secret, map[string]any{"sub": subject, "iat": issued.Unix(), "exp": expires.Unix()})
		if err != nil {
			t.Error(err)
		}
		return v4Name + "=" + made
	}
	synctest.Test(t, func(t *testing.T) {
		users := &table{users: map[string]directories.Account{"1": {Exists: true}, "2": {Exists: true}}}
		h := newHandler(t, accounts.Open(users, accounts.Config{}), new(blackHole), secret, time.Second)
		get := func(cookies string, sets ...string) int { return statusOf(t, h, cookies, sets...) }
		time.Sleep(time.Millisecond) // the time 0 of an engine stands for none
		began := time.Now()
		session := func() string { return token("1", began, time.Now().Add(time.Hour)) }
		tab := session()
		for range 6 {
			time.Sleep(9 * time.Second)
			renewed := session()
			if got := get(tab, renewed); got != http.StatusOK {
				t.Fatalf("before: status %d", got)
			}
			tab = renewed
		}
		stolen := token("2", time.Now().Add(-30*time.Second), time.Now().Add(time.Hour))
		_ = h.validator.revoked.Revoke(t.Context(), revocation.Revocation{Subject: "2", At: time.Now()}) // the store hangs
		if got := get(stolen); got != http.StatusUnauthorized {
			t.Errorf("a revoked session gets status %d", got)
		}
	})
}

// blackHole is a directory and a store of revocations that answer nothing once
// they hang.
type blackHole struct {
	hangs, confirms atomic.Bool // all, or what would confirm an absence
	gone            atomic.Bool
}

func (*blackHole) String() string { return "a black hole" }

func (b *blackHole) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	if b.hangs.Load() || b.confirms.Load() && !queries[0].Since.IsZero() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	found := make([]directories.Account, len(queries))
	for i := range found {
		found[i].Exists = !b.gone.Load()
	}
	return found, nil
}

func (b *blackHole) Put(ctx context.Context, _ []revocation.Revocation) error {
	<-ctx.Done()
	return ctx.Err()
}

func (b *blackHole) Follow(ctx context.Context, merge func([]revocation.Revocation, bool)) error {
	if !b.hangs.Load() {
		merge(nil, true)
	}
	<-ctx.Done()
	return ctx.Err()
}

// The clock of these tests stands still but for what waits for it, so that they
// take no time, and a slow machine changes nothing.
func TestARequestWaitsForOneTimeoutAndForOneMoreOnceTheAppHasAnswered(t *testing.T) {
	t.Parallel()
	const timeout, secret, cookie = 400 * time.Millisecond, "a secret", "next-auth.session-token"
	token := func(subject string, age time.Duration) string {
		made, err := mint.V4(secret, map[string]any{"sub": subject, "iat": time.Now().Add(-age).Unix()})
		if err != nil {
			t.Error(err)
		}
		return made
	}
	type answer struct {
		status int
		sets   []string
	}
	for name, c := range map[string]struct {
		cookies       func() string
		prepare       func(*blackHole) // before the request
		during        func(*blackHole) // while the app has it
		app           func() answer
		before, after time.Duration
	}{
		"nothing hangs": {
			app: func() answer { return answer{500, []string{token("ada", 0)}} },
		},
		"the first request, with revocations and users in a black hole": {
			prepare: func(b *blackHole) { b.hangs.Store(true) },
			before:  timeout,
		},
		"several sessions": {
			cookies: func() string {
				return cookie + "=" + token("ada", time.Hour) + "; " + cookie + ".x=" + token("bob", time.Hour) + "; " + cookie + "=" + token("eve", time.Hour)
			},
			prepare: func(b *blackHole) { b.hangs.Store(true) },
			before:  timeout,
		},
		"a user who is not found, and then not confirmed": {
			prepare: func(b *blackHole) { b.gone.Store(true); b.confirms.Store(true) },
			before:  timeout,
		},
		"a rescue": {
			during: func(b *blackHole) { b.hangs.Store(true) },
			app:    func() answer { return answer{500, nil} },
			after:  timeout,
		},
		"a 5xx that renews": {
			during: func(b *blackHole) { b.hangs.Store(true) },
			app:    func() answer { return answer{500, []string{token("ada", 0)}} },
			after:  timeout,
		},
		"a response that sets another session": {
			during: func(b *blackHole) { b.hangs.Store(true) },
			app:    func() answer { return answer{200, []string{token("bob", 0)}} },
			after:  timeout,
		},
		"a 5xx that sets several": {
			during: func(b *blackHole) { b.hangs.Store(true) },
			app:    func() answer { return answer{503, []string{token("bob", 0), token("eve", 0), token("ada", 0)}} },
			after:  timeout,
		},
		"a rescue that finds nobody, and cannot confirm it": {
			during: func(b *blackHole) { b.gone.Store(true); b.confirms.Store(true) },
			app:    func() answer { return answer{500, []string{token("ada", 0)}} },
			after:  timeout,
		},
		"all of it, where nobody waits once the circuit is open": {
			prepare: func(b *blackHole) { b.hangs.Store(true) },
			app:     func() answer { return answer{500, []string{token("bob", 0), token("ada", 0)}} },
			before:  timeout,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hole := new(blackHole)
				if c.prepare != nil {
					c.prepare(hole)
				}
				h := handlerOf(t, hole, secret, timeout)
				cookies := cookie + "=" + token("ada", time.Hour)
				if c.cookies != nil {
					cookies = c.cookies()
				}
				w := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodGet, "/admin", http.NoBody)
				r.Header.Set("Cookie", cookies)
				r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
				arrived := time.Now()
				var passed, answered time.Time
				err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					passed = time.Now()
					time.Sleep(time.Minute) // the app's own time does not count
					if c.during != nil {
						c.during(hole)
					}
					said := answer{status: http.StatusOK}
					if c.app != nil {
						said = c.app()
					}
					for i, token := range said.sets {
						w.Header().Add("Set-Cookie", cookie+string(rune('a'+i))+"="+token)
					}
					answered = time.Now()
					w.WriteHeader(said.status)
					return nil
				}))
				if err != nil || passed.IsZero() {
					t.Fatalf("the request did not pass: %v", err)
				}
				if got := passed.Sub(arrived); got != c.before {
					t.Errorf("it waits %s for the app, want %s", got, c.before)
				}
				if got := time.Since(answered); got != c.after {
					t.Errorf("it waits %s after the app, want %s", got, c.after)
				}
			})
		})
	}
}

// handlerOf returns a handler whose users and revocations are in a black hole.
func handlerOf(t *testing.T, hole *blackHole, secret string, timeout time.Duration) *Handler {
	t.Helper()
	return newHandler(t, accounts.Open(hole, accounts.Config{Timeout: timeout, Poll: -1}), hole, secret, timeout)
}

// newHandler returns a handler without a configuration.
func newHandler(t *testing.T, engine *accounts.Engine, store revocation.Store, secret string, timeout time.Duration) *Handler {
	t.Helper()
	h := &Handler{mode: mode.Enforce, streams: streams.NewRegistry()}
	env := environment.New()
	if err := h.provisionAnswers(env, nil); err != nil {
		t.Fatal(err)
	}
	reader, err := session.New(session.Config{Secrets: []string{secret}})
	if err != nil {
		t.Fatal(err)
	}
	revoked := revocation.Open(revocation.Config{Users: "users", Local: store, Logger: zap.NewNop})
	h.validator = &validator{reader: reader, revoked: revoked, accounts: engine, evidence: reader.Evidence(session.NewFindings()), timeout: timeout}
	if h.reporter, err = telemetry.NewReporter(telemetry.Detections{Logger: zap.NewNop(), Mode: h.mode}, session.DefaultSubject); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		reader.Close()
		h.reporter.Close()
		for _, end := range []func() error{revoked.Close, engine.Close} {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	})
	return h
}

// TestNoLoopWhateverTheCookie opens a guarded page as a browser whose stale cookie has
// a Domain or Path that nobody has configured. It is sent away once at most, the app
// never sees the session, and the browser is rid of it in the end.
func TestNoLoopWhateverTheCookie(t *testing.T) {
	for name, c := range map[string]struct {
		guard, options, domain, path string
		open                         string
		forwards                     map[string]string // what the app redirects
		ends                         string            // where the person ends up
		status                       int
	}{
		"a Domain, and a sign-in page that the app forwards": {
			"/admin* /en/*", "sign_in /login", "example.test", "/", "/admin", map[string]string{"/login": "/en/login"}, "/en/login", 200,
		},
		"a Domain, and the sign-in page is guarded": {
			"/admin*", "", "example.test", "/", "/admin", map[string]string{"/api/auth/signin": "/admin/login"}, "/admin/login", 200,
		},
		"a Path, and the sign-in page is below it": {
			"/admin*", "", "", "/admin", "/admin/users", map[string]string{"/api/auth/signin": "/admin/login"}, "/admin/login", 200,
		},
		"a session is required": {
			"/admin*", "require_session", "example.test", "/admin", "/admin", map[string]string{"/api/auth/signin": "/admin/login"}, "/admin/login", 401,
		},
		"a plain cookie": {
			"/admin*", "", "", "/", "/admin", map[string]string{"/api/auth/signin": "/admin/login"}, "/admin/login", 200,
		},
	} {
		t.Run(name, func(t *testing.T) {
			newDatabase(t)
			app := caddytest.NewApp(t)
			app.Answer(func(w http.ResponseWriter, r *http.Request) {
				if to := c.forwards[r.URL.Path]; to != "" {
					http.Redirect(w, r, to, http.StatusFound)
				}
			})
			log, options := caddytest.NewLog(t)
			site := caddytest.Site("@guarded path "+c.guard+"\n\tstale_session @guarded {\n\t\t"+c.options+"\n\t}", app.Proxy())
			base := caddytest.Start(t, strings.Replace(site, caddytest.Options, options, 1))
			browser := newBrowser(t, base)
			at, err := url.Parse("http://app.example.test" + c.open)
			if err != nil {
				t.Fatal(err)
			}
			browser.Jar.SetCookies(at, []*http.Cookie{{Name: v4Name, Value: token(t, "gone"), Domain: c.domain, Path: c.path}})
			ended, status := visit(t, browser, at.String())
			if ended != c.ends || status != c.status {
				t.Errorf("ends at %s with %d, want %s with %d", ended, status, c.ends, c.status)
			}
			for _, seen := range app.Seen() {
				if strings.Contains(seen.Header.Get("Cookie"), v4Name) {
					t.Errorf("the app sees %q at %s", seen.Header.Get("Cookie"), seen.URL)
				}
			}
			for _, cookie := range browser.Jar.Cookies(at) {
				if cookie.Name == v4Name {
					t.Error("the browser still has the cookie")
				}
			}
			if advises := strings.Contains(log.Text(t), "a browser still sends a stale session cookie that was cleared: if the app sets it with a Domain, set `cookie_domain`"); advises != (c.domain != "" || c.path != "/") {
				t.Errorf("advises %t", advises)
			}
		})
	}
}

// TestWhoSignsInAgainBesideALeftOverCookieGetsIn has a stale cookie of another place
// beside the new one, which the browser sends first.
func TestWhoSignsInAgainBesideALeftOverCookieGetsIn(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site(guarded, app.Proxy()))
	for name, left := range map[string]*http.Cookie{
		"host-only beside a new one of the domain": {Name: v4Name, Value: token(t, "gone"), Path: "/"},
		"of a path": {Name: v4Name, Value: token(t, "gone"), Path: "/admin", Domain: "example.test"},
	} {
		t.Run(name, func(t *testing.T) {
			browser := newBrowser(t, base)
			at := &url.URL{Scheme: "http", Host: "app.example.test", Path: "/admin"}
			live := token(t, "live")
			browser.Jar.SetCookies(at, []*http.Cookie{left, {Name: v4Name, Value: live, Path: "/", Domain: "example.test"}})
			if ended, status := visit(t, browser, at.String()); ended != "/admin" || status != http.StatusOK {
				t.Errorf("ends at %s with %d", ended, status)
			}
			if seen := app.Seen(); len(seen) != 1 || seen[0].Header.Get("Cookie") != v4Name+"="+live {
				t.Errorf("the app sees %v", seen)
			}
		})
	}
}

// TestALeftOverCookieIsClearedWhereTheLiveOneIsNot has a stale cookie beside a live one
// of the same name. It goes if the app has set the live one through the module.
func TestALeftOverCookieIsClearedWhereTheLiveOneIsNot(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	app.Answer(func(w http.ResponseWriter, r *http.Request) {
		for _, field := range r.Header["Sets"] {
			w.Header().Add("Set-Cookie", field)
		}
	})
	base := caddytest.Start(t, caddytest.Site(guarded, app.Proxy()))
	host := http.Cookie{Name: v4Name, Path: "/"}
	domain := http.Cookie{Name: v4Name, Path: "/", Domain: "example.test"}
	path := http.Cookie{Name: v4Name, Path: "/admin"}
	for name, c := range map[string]struct {
		left, live http.Cookie
		tossed     bool   // the live one was not set by the app
		site       string // who makes the request
		renews     string // attributes of the cookie that the app sets again
		lives      int    // cookies in the end
		stays      int
	}{
		"host-only beside one of the domain": {left: host, live: domain, site: "same-origin", lives: 1},
		"of the domain beside host-only":     {left: domain, live: host, site: "none", lives: 1},
		"of a path":                          {left: path, live: host, site: "same-origin", lives: 1},
		"of the site beside one of a path":   {left: host, live: path, site: "same-origin", lives: 1},
		"while the app renews the live one":  {left: host, live: domain, site: "same-origin", renews: "; Path=/; Domain=example.test", lives: 1},
		"while the app moves the live one":   {left: host, live: domain, site: "same-origin", renews: "; Path=/", lives: 2},
		"where the live one was not seen":    {left: host, live: domain, tossed: true, site: "same-origin", lives: 1, stays: 1},
		"in a request of another site":       {left: host, live: domain, site: "cross-site", lives: 1, stays: 1},
	} {
		t.Run(name, func(t *testing.T) {
			browser := newBrowser(t, base)
			at := &url.URL{Scheme: "http", Host: "app.example.test", Path: "/admin"}
			open := func(path, site, sets string) {
				t.Helper()
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://app.example.test"+path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				request.Header = http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {site}}
				if sets != "" {
					request.Header.Set("Sets", sets)
				}
				response, err := browser.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != http.StatusOK || response.Request.URL.Path != path {
					t.Fatalf("%d at %s", response.StatusCode, response.Request.URL)
				}
			}
			c.live.Value, c.left.Value = token(t, "live"), token(t, "gone")
			if c.tossed {
				browser.Jar.SetCookies(at, []*http.Cookie{&c.live})
			} else {
				open("/api/auth/callback/x", c.site, c.live.String())
			}
			browser.Jar.SetCookies(at, []*http.Cookie{&c.left})
			sets := ""
			if c.renews != "" {
				sets = v4Name + "=" + token(t, "live") + c.renews
			}
			open("/admin", c.site, sets)
			live, left := 0, 0
			for _, cookie := range browser.Jar.Cookies(at) {
				switch {
				case cookie.Value == c.left.Value:
					left++
				case cookie.Name == v4Name:
					live++
				}
			}
			if live != c.lives || left != c.stays {
				t.Errorf("%d live cookies, want %d; %d left over, want %d", live, c.lives, left, c.stays)
			}
		})
	}
}

// TestSigningInClearsLeftOverCookies signs in while the browser has a stale cookie at
// another place than that of the new one.
func TestSigningInClearsLeftOverCookies(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	live := token(t, "live")
	app.Answer(func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: v4Name, Value: live, Path: "/", Domain: "example.test"})
	})
	base := caddytest.Start(t, caddytest.Site(guarded, app.Proxy()))
	browser := newBrowser(t, base)
	at := &url.URL{Scheme: "http", Host: "app.example.test", Path: "/api/auth/callback/x"}
	browser.Jar.SetCookies(at, []*http.Cookie{{Name: v4Name, Value: token(t, "gone"), Path: "/"}, {Name: v4Name, Value: token(t, "gone"), Path: "/api"}})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	response, err := browser.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	var values []string
	for _, cookie := range browser.Jar.Cookies(at) {
		if cookie.Name == v4Name {
			values = append(values, cookie.Value)
		}
	}
	if !slices.Equal(values, []string{live}) {
		t.Errorf("the browser has %d cookies", len(values))
	}
}

// TestWhereTheAppKeepsItsCookieIsLearned signs somebody in with a cookie of the
// parent domain, and ends the session.
func TestWhereTheAppKeepsItsCookieIsLearned(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	live := token(t, "live")
	app.Answer(func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: v4Name, Value: live, Path: "/", Domain: "example.test", Secure: true, Partitioned: true})
	})
	base := caddytest.Start(t, caddytest.Site(guarded, app.Proxy()))
	caddytest.Do(t, http.MethodGet, base+"/api/auth/callback/x", nil)
	app.Answer(nil)
	response := caddytest.Do(t, http.MethodGet, base+"/admin", api(v4Name+"="+token(t, "gone")))
	if want := v4Name + "=; Path=/; Domain=example.test; Max-Age=0; Secure; Partitioned"; !strings.Contains(strings.Join(response.Header["Set-Cookie"], "\n"), want) {
		t.Errorf("clears %q, want %q", response.Header["Set-Cookie"], want)
	}
}

// newBrowser returns a client that keeps cookies, for which any host is Caddy's.
func newBrowser(t *testing.T, base string) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(base, "http://"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: transport}
}

// visit opens a page, and returns the path where the browser ends up.
func visit(t *testing.T, browser *http.Client, address string) (path string, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Sec-Fetch-Mode", "navigate")
	response, err := browser.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.Request.URL.Path, response.StatusCode
}

// TestARequestIsKnownBeforeItsUserIsLookedUp so that a change in between counts.
func TestARequestIsKnownBeforeItsUserIsLookedUp(t *testing.T) {
	const secret = "a secret"
	known := -1
	var h *Handler
	users := &watchedTable{table: table{users: map[string]directories.Account{"live": {Exists: true}}}, during: func() { known = h.streams.Count()["a watched table"] }}
	h = newHandler(t, accounts.Open(users, accounts.Config{}), new(blackHole), secret, time.Minute)
	if got := status(t, h, map[string]any{"sub": "live"}); got != http.StatusOK || known != 1 {
		t.Errorf("status %d, %d known", got, known)
	}
	if left := h.streams.Count(); left["a watched table"] != 0 {
		t.Errorf("%v are known after their end", left)
	}
}

// watchedTable tells when it is asked.
type watchedTable struct {
	table
	during func()
}

func (*watchedTable) String() string { return "a watched table" }

func (d *watchedTable) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	d.during()
	return d.table.Lookup(ctx, queries)
}

// TestWhoseNewSessionIsStaleToo is about a session that a response sets while one of the
// request has become stale.
func TestWhoseNewSessionIsStaleToo(t *testing.T) {
	t.Parallel()
	live := func(subject string) verdict.Judgement {
		return verdict.Judgement{Verdict: verdict.Live, Subject: []byte(subject)}
	}
	stale := func(subject string) verdict.Judgement {
		return verdict.Judgement{Verdict: verdict.Stale, Reason: verdict.TokenRevoked, Subject: []byte(subject)}
	}
	alone := stale("ada")
	alone.Alone = true
	for name, c := range map[string]struct {
		set, died verdict.Judgement
		want      verdict.Verdict
	}{
		"of the same user": {live("ada"), stale("ada"), verdict.Stale},
		"of somebody else": {live("bob"), stale("ada"), verdict.Live},
		"of the same user, whose other session has ended": {live("ada"), alone, verdict.Live},
		"of nobody knows whom, both":                      {live(""), stale(""), verdict.Live},
		"of a user whose session is live":                 {live("ada"), live("ada"), verdict.Live},
	} {
		set := []verdict.Judgement{c.set}
		if spread(set, []verdict.Judgement{c.died}); set[0].Verdict != c.want {
			t.Errorf("%s: %s", name, set[0].Verdict)
		}
	}
}

// TestARevocationMayConcernASessionThatTheAppLooksUp beside another, or alone: whose it is
// is not known, and it has no claims.
func TestARevocationMayConcernASessionThatTheAppLooksUp(t *testing.T) {
	h := handlerOf(t, new(blackHole), "a secret", time.Minute)
	h.validator.matchesSessionID = true
	for name, c := range map[string]struct {
		id   string
		want bool
	}{
		"in a store that names its user": {"a", true},
		"in one that nobody can ask":     {"", false},
	} {
		x := &request{handler: h, owned: []session.Token{
			{Claims: session.Claims{Subject: []byte("ada"), Match: make([][]byte, len(sessionIDs))}},
			{Claims: session.Claims{AppAsks: true, SessionID: []byte(c.id)}},
		}}
		if got := x.Revoked(h.validator.revoked); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestWhenAStreamExpires with its tokens, of which the app may renew some by itself.
func TestWhenAStreamExpires(t *testing.T) {
	t.Parallel()
	soon := time.Now()
	later := soon.Add(time.Hour)
	for name, c := range map[string]struct {
		claims []session.Claims
		want   time.Time
	}{
		"a token":                           {[]session.Claims{{ExpiresAt: soon}}, soon.Add(expiryTolerance)},
		"two of them, with the last":        {[]session.Claims{{ExpiresAt: soon}, {ExpiresAt: later}}, later.Add(expiryTolerance)},
		"one that never expires":            {[]session.Claims{{ExpiresAt: soon}, {}}, time.Time{}},
		"the cache of a session in a store": {[]session.Claims{{ExpiresAt: soon, SessionID: []byte("a")}}, time.Time{}},
	} {
		x := new(request)
		for _, claims := range c.claims {
			x.owned = append(x.owned, session.Token{Claims: claims})
		}
		if got := x.expires(); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// stored is a format of sessions that are kept in a table: the cookie sid is
// "<user>.<session>", or ".<session>" if the app looks it up.
type stored struct{}

func (stored) Owns(name, _ string) bool { return name == "sid" }
func (stored) Headers() []string        { return nil }
func (stored) Readings(parts []formats.Part) []formats.Reading {
	return formats.Values(parts, "sid")
}

func (stored) Decode(text string, now time.Time) (formats.Session, error) {
	user, id, _ := strings.Cut(text, ".")
	return formats.Session{Subject: user, ID: id, AppAsks: user == "", MadeAt: now.Add(-time.Hour), Claims: map[string]any{}}, nil
}

// newStoredHandler returns a handler of users and of the rows of their sessions.
func newStoredHandler(t *testing.T, users, rows *table, config accounts.Config) *Handler {
	t.Helper()
	open := streams.NewRegistry()
	config.Streams = open
	h := newHandler(t, accounts.Open(users, config), new(blackHole), "a secret", time.Minute)
	h.streams = open
	reader, err := session.New(session.Config{Formats: []formats.Format{stored{}}})
	if err != nil {
		t.Fatal(err)
	}
	sessions := sessiontable.Open(rows, config, true)
	t.Cleanup(func() {
		reader.Close()
		if err := sessions.Close(); err != nil {
			t.Error(err)
		}
	})
	h.validator.reader, h.validator.evidence = reader, reader.Evidence(session.NewFindings())
	h.validator.sessions = []*sessiontable.Table{sessions}
	return h
}

// openEvents opens an event stream, and returns a channel that is closed when it ends.
func openEvents(t *testing.T, h *Handler, sid string) <-chan struct{} {
	t.Helper()
	w, ended := httptest.NewRecorder(), make(chan struct{})
	ctx := t.Context()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/admin", http.NoBody)
	r.Header.Set("Cookie", "sid="+sid)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	go func() {
		defer close(ended)
		defer func() {
			if err := recover(); err != nil && err != any(http.ErrAbortHandler) {
				t.Errorf("a panic: %v", err)
			}
		}()
		if err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			<-r.Context().Done()
			return nil
		})); err != nil {
			t.Error(err)
		}
		if w.Code != http.StatusOK {
			t.Errorf("%s: status %d", sid, w.Code)
		}
	}()
	synctest.Wait()
	return ended
}

func isClosed(ended <-chan struct{}) bool {
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// TestAStreamEndsSoonAfterTheRowOfItsSession and that of another session of the same user
// goes on. Users and sessions have the same ids here.
func TestAStreamEndsSoonAfterTheRowOfItsSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const poll = 500 * time.Millisecond
		here := directories.Account{Exists: true}
		users := &table{users: map[string]directories.Account{"1": here, "2": here}}
		rows := &table{users: map[string]directories.Account{"1": here, "2": here, "3": here}}
		h := newStoredHandler(t, users, rows, accounts.Config{Poll: poll})
		time.Sleep(time.Millisecond) // the time 0 of an engine stands for none
		one, two, three := openEvents(t, h, "1.1"), openEvents(t, h, "1.2"), openEvents(t, h, "2.3")
		unknown := openEvents(t, h, "2.4") // there is no row
		const counted = "a table"
		if counts := h.streams.Count(); len(counts) != 1 || counts[counted] != 4 {
			t.Errorf("under way: %v", counts)
		}
		time.Sleep(10 * poll)
		rows.commit(func() { rows.away = errors.New("there is no such table") })
		time.Sleep(2 * poll)
		for i, stream := range []<-chan struct{}{one, two, three, unknown} {
			if isClosed(stream) {
				t.Errorf("stream %d has ended because of an error", i)
			}
		}
		rows.commit(func() {
			rows.away = nil
			delete(rows.users, "2")
		})
		time.Sleep(2 * poll)
		for name, c := range map[string]struct {
			stream <-chan struct{}
			ended  bool
		}{
			"of the session whose row is gone": {two, true},
			"of another of the same user":      {one, false},
			"of somebody else":                 {three, false},
			"of one that never had a row":      {unknown, false},
		} {
			if isClosed(c.stream) != c.ended {
				t.Errorf("the stream %s: ended %t", name, !c.ended)
			}
		}
		users.commit(func() { delete(users.users, "2") })
		time.Sleep(2 * poll)
		if !isClosed(three) || !isClosed(unknown) || isClosed(one) {
			t.Error("the streams of a user, and no others, do not end with them")
		}
	})
}

// TestAStreamEndsWhoseOwnerWasNotKnownAtFirst because the rows could not be read when it
// was opened.
func TestAStreamEndsWhoseOwnerWasNotKnownAtFirst(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(users, rows *table){
		"signed out elsewhere": func(_, rows *table) { rows.commit(func() { delete(rows.users, "a") }) },
		"without its user":     func(users, _ *table) { users.commit(func() { delete(users.users, "1") }) },
		"without either": func(users, rows *table) {
			rows.commit(func() { delete(rows.users, "a") })
			users.commit(func() { delete(users.users, "1") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				users := &table{users: map[string]directories.Account{"1": {Exists: true}, "2": {Exists: true}}}
				rows := &table{away: errors.New("there is no such table"), users: map[string]directories.Account{
					"a": {Exists: true, Matched: [][]byte{[]byte("1")}}, "b": {Exists: true, Matched: [][]byte{[]byte("2")}},
				}}
				h := newStoredHandler(t, users, rows, accounts.Config{})
				time.Sleep(time.Millisecond) // the time 0 of an engine stands for none
				ending, live, nobody := openEvents(t, h, ".a"), openEvents(t, h, ".b"), openEvents(t, h, ".c")
				rows.commit(func() { rows.away = nil })
				time.Sleep(time.Minute)
				if isClosed(ending) {
					t.Fatal("it has ended")
				}
				end(users, rows)
				time.Sleep(time.Minute)
				if !isClosed(ending) || isClosed(live) || isClosed(nobody) {
					t.Errorf("ended: %t, and those that did not: %t, %t", isClosed(ending), isClosed(live), isClosed(nobody))
				}
			})
		})
	}
}

// TestARenewalOfAReplacedSessionLeavesTheNextOneAlone because it may come after the cookies
// of that, which have the same names.
func TestARenewalOfAReplacedSessionLeavesTheNextOneAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const poll = 100 * time.Millisecond
		here := directories.Account{Exists: true}
		users := &table{users: map[string]directories.Account{"1": here}}
		rows := &table{users: map[string]directories.Account{"1": here, "2": here}}
		h := newStoredHandler(t, users, rows, accounts.Config{Poll: poll})
		time.Sleep(time.Millisecond) // the time 0 of an engine stands for none
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/admin", http.NoBody)
		r.Header.Set("Cookie", "sid=1.1")
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		if err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			rows.commit(func() { delete(rows.users, "1") })
			time.Sleep(2 * poll)
			w.Header().Set("Set-Cookie", "sid=1.1")
			w.WriteHeader(http.StatusOK)
			return nil
		})); err != nil {
			t.Fatal(err)
		}
		if lines := w.Header()["Set-Cookie"]; w.Code != http.StatusOK || len(lines) > 0 {
			t.Errorf("status %d, it sets %q", w.Code, lines)
		}
	})
}

// TestHowOftenARequestOfAStoredSessionAllocates compares it with one whose rows nobody
// looks up. Nothing runs beside it.
func TestHowOftenARequestOfAStoredSessionAllocates(t *testing.T) {
	const more = 2
	config := accounts.Config{TTL: time.Hour, Poll: -1}
	here := map[string]directories.Account{"1": {Exists: true}}
	h := newStoredHandler(t, &table{users: here}, &table{users: here}, config)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		return nil
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/admin", http.NoBody)
	r.Header.Set("Cookie", "sid=1.1")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	allocations := func(most float64) float64 {
		least := math.Inf(1)
		for range 50 { // with the race detector, a sync.Pool drops some of its values
			if least <= most {
				break
			}
			least = min(least, testing.AllocsPerRun(20, func() {
				if err := h.ServeHTTP(w, r, next); err != nil {
					t.Error(err)
				}
			}))
		}
		return least
	}
	with := h.validator.sessions
	h.validator.sessions = make([]*sessiontable.Table, len(with))
	without := allocations(0)
	h.validator.sessions = with
	if n := allocations(without + more); w.Code != http.StatusOK || n > without+more {
		t.Errorf("status %d, %.0f allocations, %.0f without rows", w.Code, n, without)
	}
}

// TestALateValidatorIsReplaced although a request still has it, which may last for hours.
func TestALateValidatorIsReplaced(t *testing.T) {
	newDatabase(t)
	h := &Handler{directory: new(postgres.Module), storage: &certmagic.FileStorage{Path: t.TempDir()}}
	var err error
	if h.validator, err = h.newValidator(environment.New(), &h.lease.Resources, h.lookups); err != nil {
		t.Fatal(err)
	}
	if err := h.lease.End(); err != nil {
		t.Fatal(err)
	}
	first, lease := h.acquire()
	defer lease.Release()
	again, lease := h.acquire()
	if lease.Release(); again != first {
		t.Error("it is not shared")
	}
	eventually.Holds(t, "it is replaced", func() bool {
		later, lease := h.acquire()
		lease.Release()
		return later != first
	})
}
