package betterauth_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
	_ "github.com/seed-4adef13c/caddy-stale-session/redis"
)

const appSecret = "a secret of the app: 32 bytes or more"

// appStrategies are those of the cookie cache, each an app of its own on one database.
// plugin is jwt, signed by the plugin of that name; elsewhere is compact with sessions
// that are not in Postgres; redis has them in Redis, and no cache.
var appStrategies = []string{"none", "compact", "jwt", "jwe", "plugin", "elsewhere", "redis"}

// app are running apps with the real Better Auth.
type app struct {
	addresses map[string]string // by strategy
	server    *pgtest.Server
	database  string
}

// startApp starts the apps, and sets the environment of Caddy as theirs.
func startApp(t *testing.T) *app {
	t.Helper()
	if err := npm.Install(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	server := pgtest.StartFor(t)
	memory, err := redistest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := memory.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("REDIS_URL", memory.URL())
	name, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := &app{addresses: make(map[string]string), server: server, database: name}
	for _, variable := range []string{"AUTH_SECRET", "NEXTAUTH_SECRET", "BETTER_AUTH_SECRETS", "AUTH_URL", "NEXTAUTH_URL", "BETTER_AUTH_URL", "STALE_SESSION_MODE"} {
		t.Setenv(variable, "")
	}
	t.Setenv("DATABASE_URL", server.DSN(name))
	t.Setenv("BETTER_AUTH_SECRET", appSecret)
	lines := bufio.NewScanner(npm.Start(t, "app"))
	for range appStrategies {
		if !lines.Scan() {
			t.Fatalf("the app has ended: %v", lines.Err())
		}
		strategy, address, _ := strings.Cut(lines.Text(), " ")
		a.addresses[strategy] = address
	}
	return a
}

func (a *app) exec(t *testing.T, commands ...string) {
	t.Helper()
	if err := a.server.Exec(context.Background(), a.database, commands...); err != nil {
		t.Fatal(err)
	}
}

// browser keeps cookies, and forgets them as it is told.
type browser struct {
	t      *testing.T
	base   string
	jar    map[string]string
	bearer string // a client that keeps no cookies
}

func newBrowser(t *testing.T, base string) *browser {
	return &browser{t: t, base: base, jar: make(map[string]string)}
}

// copy is somebody who has copied the cookies.
func (b *browser) copy() *browser {
	return &browser{t: b.t, base: b.base, jar: maps.Clone(b.jar), bearer: b.bearer}
}

func (b *browser) send(method, path, body string) (status int, header http.Header, text string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, b.base+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Origin", b.base)
	request.Header.Set("Accept", "text/html")
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if b.bearer != "" {
		request.Header.Set("Authorization", "Bearer "+b.bearer)
	}
	for _, name := range slices.Sorted(maps.Keys(b.jar)) {
		request.Header.Add("Cookie", name+"="+b.jar[name])
	}
	response, err := caddytest.Client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, cookie := range response.Cookies() {
		if cookie.MaxAge < 0 || cookie.Value == "" {
			delete(b.jar, cookie.Name)
		} else {
			b.jar[cookie.Name] = cookie.Value
		}
	}
	return response.StatusCode, response.Header, string(read)
}

// signUp makes an account, and signs in.
func (b *browser) signUp(email string) {
	b.t.Helper()
	status, header, body := b.send(http.MethodPost, "/api/auth/sign-up/email", fmt.Sprintf(`{"name":"x","email":%q,"password":"a password"}`, email))
	if status != http.StatusOK || b.jar["better-auth.session_token"] == "" {
		b.t.Fatalf("signing up: status %d, %s", status, body)
	}
	b.bearer = header.Get("Set-Auth-Token")
	if user := b.user(); user != email {
		b.t.Fatalf("signed up as %s, the page greets %q", email, user)
	}
}

// user is whom a page greets; empty for nobody.
func (b *browser) user() string {
	b.t.Helper()
	status, _, body := b.send(http.MethodGet, "/", "")
	var greeted struct{ Email string }
	if err := json.Unmarshal([]byte(body), &greeted); err != nil || (status == http.StatusOK) != (greeted.Email != "") {
		b.t.Fatalf("status %d: %s", status, body)
	}
	return greeted.Email
}

// signedIn is whom the library's client takes to be signed in.
func (b *browser) signedIn() string {
	b.t.Helper()
	status, _, body := b.send(http.MethodGet, "/api/auth/get-session", "")
	var session *struct{ User struct{ Email string } }
	if err := json.Unmarshal([]byte(body), &session); err != nil || status != http.StatusOK {
		b.t.Fatalf("get-session: status %d: %s", status, body)
	}
	if session == nil {
		return ""
	}
	return session.User.Email
}

// write writes something in the name of the user, and returns the status.
func (b *browser) write() int {
	b.t.Helper()
	status, _, _ := b.send(http.MethodPost, "/", "{}")
	return status
}

// sessions are the cookies of a session that the browser has.
func (b *browser) sessions() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(b.jar)), func(name string) bool { return !strings.Contains(name, "better-auth.session_") })
}

// site is the Caddyfile in front of the app.
func (a *app) site(t *testing.T, strategy string, options ...string) string {
	t.Helper()
	directives := []string{"stale_session {"}
	if strategy == "plugin" {
		options = append(options, "	format better_auth {", "		jwks http://"+a.addresses[strategy]+"/api/auth/jwks", "	}")
	}
	if strategy == "redis" {
		options = append(options, "	format better_auth {", "		redis {env.REDIS_URL}", "	}")
	}
	directives = append(directives, options...)
	return caddytest.Start(t, caddytest.Site(append(directives, "}", "header >X-Judged {http.stale_session.subject}", "reverse_proxy "+a.addresses[strategy])...))
}

// TestAppsWithBetterAuth has the real library before a real database, behind Caddy
// without any option.
func TestAppsWithBetterAuth(t *testing.T) {
	a := startApp(t)
	for _, strategy := range appStrategies {
		t.Run(strategy, func(t *testing.T) {
			email := func(name string) string { return name + "@" + strategy + ".example" }
			direct := "http://" + a.addresses[strategy]
			newBrowser(t, direct).signUp(email("eve")) // the app makes its keys for the first session
			base := a.site(t, strategy)
			ada, bob := newBrowser(t, base), newBrowser(t, base)
			ada.signUp(email("ada"))
			bob.signUp(email("bob"))
			ada.bearer, bob.bearer = "", ""
			if user := ada.signedIn(); user != email("ada") {
				t.Errorf("get-session says %q", user)
			}
			if status := ada.write(); status != http.StatusOK {
				t.Errorf("a write of somebody who is signed in: status %d", status)
			}
			client, early := ada.copy(), ada.copy()
			if strategy != "none" {
				a.testSignedOutElsewhere(t, strategy, bob)
			}
			a.exec(t, fmt.Sprintf(`delete from "user" where email = '%s'`, email("ada")))
			eventually.Holds(t, "Ada is signed out", func() bool { return early.copy().signedIn() == "" })
			around := early.copy()
			around.base = direct
			// The plugin accepts no cache from another address than the app's own.
			if user := around.user(); (user != "") != (strategy != "none" && strategy != "plugin") {
				t.Errorf("the app itself greets %q: nothing is shown by this test", user)
			}
			if user := client.signedIn(); user != "" || len(client.sessions()) > 0 {
				t.Errorf("get-session says %q, and leaves %q", user, client.sessions())
			}
			if strategy == "compact" {
				early.testCleared(t)
			}
			if status := early.copy().write(); status != http.StatusUnauthorized {
				t.Errorf("a write of somebody who is gone: status %d", status)
			}
			if user := ada.user(); user != "" || strategy != "none" && len(ada.sessions()) > 0 { // a page without a cache clears nothing
				t.Errorf("the page greets %q, and leaves %q", user, ada.sessions())
			}
			ada.signUp(email("ada"))
			if status := ada.write(); status != http.StatusOK {
				t.Errorf("a write after signing up again: status %d", status)
			}
			if user := early.copy().user(); user != "" {
				t.Errorf("the cookies of before greet %q", user)
			}
			if user, client := bob.user(), bob.signedIn(); user != email("bob") || client != user {
				t.Errorf("Bob, who has lost nothing: %q, and for his client %q", user, client)
			}
			tossed := bob.copy()
			for name, value := range early.jar {
				if strings.Contains(name, "session_data") {
					tossed.jar[name] = value
				}
			}
			if user := tossed.user(); user != email("bob") {
				t.Errorf("Bob with a cache of Ada's: %q", user)
			}
		})
	}
	for _, strategy := range []string{"compact", "none", "redis"} {
		t.Run("a ban, "+strategy, func(t *testing.T) { a.testBan(t, strategy) })
	}
	t.Run("a Bearer token", a.testBearer)
}

// testCleared has the cookies of a stale session as they are on HTTPS, in chunks.
func (b *browser) testCleared(t *testing.T) {
	const token, data = "__Secure-better-auth.session_token", "__Secure-better-auth.session_data"
	chunks := b.jar["better-auth.session_data"]
	half := len(chunks) / 2
	secure := b.copy()
	secure.jar = map[string]string{token: b.jar["better-auth.session_token"], data + ".0": chunks[:half], data + ".1": chunks[half:], "theme": "dark"}
	_, header, _ := secure.send(http.MethodGet, "/api/auth/get-session", "")
	cleared := make(map[string]bool)
	for _, line := range header["Set-Cookie"] {
		cookie, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(cookie.Name, "__Secure-") && (!cookie.Secure || cookie.Path != "/" || cookie.MaxAge >= 0) {
			t.Errorf("no browser accepts %s", line)
		}
		cleared[cookie.Name] = true
	}
	if !cleared[token] || !cleared[data+".0"] || !cleared[data+".1"] || cleared["theme"] {
		t.Errorf("cleared %v", cleared)
	}
}

// testSignedOutElsewhere signs somebody out whose cache is still valid.
func (a *app) testSignedOutElsewhere(t *testing.T, strategy string, bob *browser) {
	other := newBrowser(t, bob.base)
	if status, _, body := other.send(http.MethodPost, "/api/auth/sign-in/email", fmt.Sprintf(`{"email":"bob@%s.example","password":"a password"}`, strategy)); status != http.StatusOK {
		t.Fatalf("signing in: status %d, %s", status, body)
	}
	for _, b := range []*browser{bob, other} {
		if user := b.user(); user == "" {
			t.Error("signed out by signing in elsewhere")
		}
	}
	eventually.Holds(t, "the session is judged", func() bool { // once the keys have been fetched
		_, header, _ := other.send(http.MethodGet, "/", "")
		judged := header.Get("X-Judged")
		return judged != "" && judged[0] != '{'
	})
	if status, _, body := bob.send(http.MethodPost, "/api/auth/revoke-other-sessions", "{}"); status != http.StatusOK {
		t.Fatalf("signing out elsewhere: status %d, %s", status, body)
	}
	if strategy == "elsewhere" { // only the app knows
		if user := other.copy().user(); user == "" {
			t.Error("a session without a row was ended by its absence")
		}
		return
	}
	eventually.Holds(t, "who is signed out elsewhere is nobody", func() bool { return other.copy().signedIn() == "" })
	if user := bob.user(); user == "" {
		t.Error("who has signed others out is signed out")
	}
	// The app ends all sessions, and begins another in the same answer.
	old := bob.copy()
	status, _, body := bob.send(http.MethodPost, "/api/auth/change-password", `{"currentPassword":"a password","newPassword":"another one","revokeOtherSessions":true}`)
	if user := bob.user(); status != http.StatusOK || user == "" {
		t.Errorf("changing the password: status %d, %s, and then the page greets %q", status, body, user)
	}
	eventually.Holds(t, "the session before is ended", func() bool { return old.copy().signedIn() == "" })
	if user := bob.user(); user == "" {
		t.Error("who has changed the password is signed out")
	}
}

// testBan bans somebody by SQL, which the app itself does not notice.
func (a *app) testBan(t *testing.T, strategy string) {
	domain := "ban." + strategy
	base := a.site(t, strategy, "	sign_in /login")
	ada, bob := newBrowser(t, base), newBrowser(t, base)
	ada.signUp("ada@" + domain)
	bob.signUp("bob@" + domain)
	ada.bearer, bob.bearer = "", ""
	a.exec(t, `update "user" set banned = true, "banExpires" = now() - interval '1 minute' where email = 'bob@`+domain+"'",
		`update "user" set banned = true, "banExpires" = now() + interval '1 day' where email = 'ada@`+domain+"'")
	eventually.Holds(t, "Ada is led to the sign-in page", func() bool {
		status, header, _ := ada.copy().send(http.MethodGet, "/", "")
		return status == http.StatusSeeOther && strings.HasPrefix(header.Get("Location"), "/login?")
	})
	if user := bob.user(); user != "bob@"+domain {
		t.Errorf("Bob, whose ban has ended: %q", user)
	}
	a.exec(t, `update "user" set banned = false, "banExpires" = null`)
	eventually.Holds(t, "Ada is back", func() bool { return ada.copy().user() == "ada@"+domain })
}

// testBearer has a token that passes: the app looks it up itself.
func (a *app) testBearer(t *testing.T) {
	base := a.site(t, "compact")
	ada := newBrowser(t, base)
	ada.signUp("ada@bearer.example")
	if ada.bearer == "" {
		t.Fatal("the app gives no token")
	}
	ada.jar = map[string]string{}
	if user := ada.user(); user != "ada@bearer.example" {
		t.Errorf("greets %q", user)
	}
	a.exec(t, `delete from "user"`)
	ada.jar = map[string]string{}
	if user := ada.user(); user != "" {
		t.Errorf("greets %q, who is gone", user)
	}
}
