// Package reissue tests that nothing renews a session once it is stale, with
// the real handlers of NextAuth v4 and Auth.js v5 behind the module.
package reissue

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

const secret = "a secret of the re-issue tests"

// server is a real Postgres, which the tests of this package share.
var server *pgtest.Server

func TestMain(m *testing.M) {
	if err := npm.Install(context.Background(), "app"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(pgtest.Main(func(s *pgtest.Server) int {
		server = s
		return m.Run()
	}))
}

// app is a running app.
type app struct {
	address string
	lines   *bufio.Reader
}

func startApp(t *testing.T, variant, dsn string) *app {
	t.Helper()
	a := &app{lines: npm.Start(t, "app", "VARIANT="+variant, "DATABASE_URL="+dsn, "AUTH_SECRET="+secret, "NEXTAUTH_URL=http://127.0.0.1", "NODE_ENV=production", "NO_COLOR=1")}
	a.address = a.line(t)
	return a
}

// line is the next line that the app prints.
func (a *app) line(t *testing.T) string {
	t.Helper()
	line, err := a.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the app has ended: %v", err)
	}
	return strings.TrimSpace(line)
}

// browser keeps cookies, and forgets them as it is told.
type browser struct {
	t    *testing.T
	base string
	jar  map[string]string
}

// do sends a request with the cookies of the moment, and keeps those of the
// response.
func (b *browser) do(method, path string, form url.Values) (int, string) {
	b.t.Helper()
	status, header, body := b.send(method, path, form, false)
	b.keep(header)
	return status, body
}

func (b *browser) send(method, path string, form url.Values, hold bool) (int, http.Header, string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if hold {
		request.Header.Set("X-Hold", "yes")
	}
	for _, name := range slices.Sorted(maps.Keys(b.jar)) {
		request.AddCookie(&http.Cookie{Name: name, Value: b.jar[name]})
	}
	response, err := caddytest.Client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}

func (b *browser) keep(header http.Header) {
	for _, cookie := range (&http.Response{Header: header}).Cookies() {
		if cookie.MaxAge < 0 || !cookie.Expires.IsZero() && cookie.Expires.Before(time.Now()) || cookie.Value == "" {
			delete(b.jar, cookie.Name)
		} else {
			b.jar[cookie.Name] = cookie.Value
		}
	}
}

// session tells whether the browser has a session cookie.
func (b *browser) session() bool {
	for name := range b.jar {
		if strings.Contains(name, "session-token") {
			return true
		}
	}
	return false
}

// subject is whose session the app sees on a guarded route; empty for nobody.
func (b *browser) subject() (status int, subject string) {
	b.t.Helper()
	status, body := b.do(http.MethodGet, "/admin", nil)
	var said struct{ Subject string }
	if status == http.StatusOK {
		if err := json.Unmarshal([]byte(body), &said); err != nil {
			b.t.Fatalf("%v: %s", err, body)
		}
	}
	return status, said.Subject
}

// signIn signs in by the library's own form.
func (b *browser) signIn(id string) {
	b.t.Helper()
	_, body := b.do(http.MethodGet, "/api/auth/csrf", nil)
	var csrf struct{ CsrfToken string }
	if err := json.Unmarshal([]byte(body), &csrf); err != nil {
		b.t.Fatalf("%v: %s", err, body)
	}
	status, body := b.do(http.MethodPost, "/api/auth/callback/credentials", url.Values{"csrfToken": {csrf.CsrfToken}, "id": {id}, "callbackUrl": {b.base}})
	if !b.session() {
		b.t.Fatalf("signing in: status %d, %s", status, body)
	}
}

// variants are the libraries: how to make a token of theirs.
var variants = map[string]struct {
	cookie string
	mint   func(claims map[string]any) (string, error)
}{
	"v4": {"next-auth.session-token", func(claims map[string]any) (string, error) { return mint.V4(secret, claims) }},
	"v5": {"authjs.session-token", func(claims map[string]any) (string, error) {
		return mint.V5(secret, "authjs.session-token", claims)
	}},
}

// rules are the ways in which a session becomes stale: the options, and what
// happens to the user 1.
var rules = map[string]struct{ options, change []string }{
	"deleted":     {nil, []string{`delete from "User" where id = 1`}},
	"created_at":  {[]string{"issued_at loginAt"}, []string{`delete from "User" where id = 1`, `insert into "User" values (1, 'bob@example.com', now())`}},
	"valid_after": {[]string{"issued_at loginAt", "users {", "	valid_after validAfter", "}"}, []string{`update "User" set "validAfter" = now() where id = 1`}},
	"match":       {[]string{"users {", "	match email email", "}"}, []string{`update "User" set email = 'bob@example.com' where id = 1`}},
}

// histories are all orders of two polls of the session, a third one whose
// response is held back and released later, and the change.
func histories() [][]string {
	var all [][]string
	var extend func(before, left []string)
	extend = func(before, left []string) {
		if len(left) == 0 {
			all = append(all, slices.Clone(before))
		}
		for i, step := range left {
			if step == "release" && !slices.Contains(before, "hold") || step == "poll again" && !slices.Contains(before, "poll") {
				continue
			}
			extend(append(slices.Clone(before), step), slices.Delete(slices.Clone(left), i, i+1))
		}
	}
	extend(nil, []string{"poll", "poll again", "hold", "release", "change"})
	return all
}

func TestNoOrderOfPollsAndChangesRenewsAStaleSession(t *testing.T) {
	for variant, library := range variants {
		name, err := server.NewDatabase(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		dsn := server.DSN(name)
		execute := func(commands ...string) {
			t.Helper()
			if err := server.Exec(context.Background(), name, commands...); err != nil {
				t.Fatal(err)
			}
		}
		execute(`create table "User" (id int primary key, email text, "createdAt" timestamptz not null, "validAfter" timestamptz)`)
		a := startApp(t, variant, dsn)
		t.Setenv("DATABASE_URL", dsn)
		t.Setenv("AUTH_SECRET", secret)
		for _, variable := range []string{"NEXTAUTH_SECRET", "AUTH_URL", "NEXTAUTH_URL", "STALE_SESSION_MODE"} {
			t.Setenv(variable, "")
		}
		for rule, r := range rules {
			t.Run(variant+", "+rule, func(t *testing.T) {
				site := []string{"stale_session /admin* {", "	poll off", "	cache {", "		ttl 1ms", "	}"}
				for _, option := range r.options {
					site = append(site, "	"+option)
				}
				base := caddytest.Start(t, caddytest.Site(append(site, "}", "reverse_proxy "+a.address)...))
				reset := func() {
					execute(`truncate "User"`, `insert into "User" values (1, 'ada@example.com', now() - interval '1 day'), (2, 'eve@example.com', now() - interval '1 day')`)
				}
				renewed := 0
				for _, history := range histories() {
					reset()
					// Ada has signed in an hour ago.
					then := time.Now().Add(-time.Hour).Unix()
					token, err := library.mint(map[string]any{"sub": "1", "email": "ada@example.com", "iat": then, "loginAt": then, "exp": time.Now().Add(time.Hour).Unix()})
					if err != nil {
						t.Fatal(err)
					}
					b := &browser{t: t, base: base, jar: map[string]string{library.cookie: token}}
					if status, subject := b.subject(); status != http.StatusOK || subject != "1" {
						t.Fatalf("before: status %d, subject %q", status, subject)
					}
					held := make(chan http.Header, 1)
					for _, step := range history {
						switch step {
						case "change":
							execute(r.change...)
						case "hold":
							go func() {
								_, header, _ := b.send(http.MethodGet, "/api/auth/session", nil, true)
								held <- header
							}()
							if line := a.line(t); line != "held" {
								t.Fatalf("the app says %q", line)
							}
						case "release":
							release(t, a)
							b.keep(<-held)
						default:
							before := b.jar[library.cookie]
							b.do(http.MethodGet, "/api/auth/session", nil)
							if after := b.jar[library.cookie]; after != "" && after != before {
								renewed++
							}
						}
					}
					// However it came to what the browser holds now:
					status, subject := b.subject()
					if subject != "" || status == http.StatusOK && b.session() {
						t.Errorf("%s: a guarded route is reached with status %d, as %q", history, status, subject)
					}
					if b.session() {
						t.Errorf("%s: after its refusal the browser still has a session", history)
					}
					b.do(http.MethodGet, "/api/auth/session", nil)
					if b.session() {
						t.Errorf("%s: a further poll brings a session", history)
					}
					b.signIn("2")
					if status, subject := b.subject(); status != http.StatusOK || subject != "2" {
						t.Errorf("%s: after signing in: status %d, subject %q", history, status, subject)
					}
				}
				if renewed == 0 {
					t.Error("the library has never renewed a session, so nothing was shown")
				}
				t.Logf("%d histories; the library has renewed %d sessions while they were live", len(histories()), renewed)
			})
		}
	}
}

func release(t *testing.T, a *app) {
	t.Helper()
	if r := caddytest.Do(t, http.MethodPost, "http://"+a.address+"/release", nil); r.StatusCode != http.StatusOK {
		t.Fatalf("status %d", r.StatusCode)
	}
}

// TestASessionThatWasRenewedJustBeforeItsIDIsGivenAwayEnds renews a session, by
// which its iat is that of a new one, and then gives its id to somebody else.
func TestASessionThatWasRenewedJustBeforeItsIDIsGivenAwayEnds(t *testing.T) {
	for variant, library := range variants {
		for _, issuedAt := range []string{"iat", "loginAt"} {
			t.Run(variant+" by "+issuedAt, func(t *testing.T) {
				name, err := server.NewDatabase(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := server.Exec(t.Context(), name, `create table "User" (id int primary key, email text, "createdAt" timestamptz not null)`,
					`insert into "User" values (1, 'ada@example.com', now() - interval '1 day')`); err != nil {
					t.Fatal(err)
				}
				a := startApp(t, variant, server.DSN(name))
				t.Setenv("DATABASE_URL", server.DSN(name))
				t.Setenv("AUTH_SECRET", secret)
				base := caddytest.Start(t, caddytest.Site("stale_session /admin* {", "	poll off", "	issued_at "+issuedAt, "	cache {", "		ttl 1ms", "	}", "}", "reverse_proxy "+a.address))
				then := time.Now().Add(-time.Hour).Unix()
				token, err := library.mint(map[string]any{"sub": "1", "iat": then, "loginAt": then})
				if err != nil {
					t.Fatal(err)
				}
				b := &browser{t: t, base: base, jar: map[string]string{library.cookie: token}}
				b.do(http.MethodGet, "/api/auth/session", nil) // iat is of now
				if err := server.Exec(t.Context(), name, `delete from "User"`, `insert into "User" values (1, 'bob@example.com', now())`); err != nil {
					t.Fatal(err)
				}
				if status, subject := b.subject(); status == http.StatusOK || subject != "" {
					t.Errorf("status %d, subject %q", status, subject)
				}
			})
		}
	}
}
