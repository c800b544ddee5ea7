package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

const password = "a password of sessions, which has 32 characters or more"

// library is a library whose sessions are read.
type library struct {
	name       string
	variables  map[string]string
	directives []string
	schema     []string
	remove     string // the user "gone"
	cookie     string // its name
	seal       func(user string) (string, error)
}

// user returns the id of a user of Supabase.
func user(name string) string {
	return map[string]string{"live": "00000000-0000-4000-8000-000000000001", "gone": "00000000-0000-4000-8000-000000000002"}[name]
}

var libraries = []library{
	{
		name: "iron-session", variables: map[string]string{"SECRET_COOKIE_PASSWORD": password}, cookie: "app-session",
		seal: func(user string) (string, error) {
			text, err := mint.Seal{Password: password, ID: "1", Expires: time.Now().Add(24 * time.Hour)}.Of(map[string]any{"user": map[string]any{"id": user}})
			return text + "~2", err
		},
	},
	{
		name: "Nuxt", variables: map[string]string{"NUXT_SESSION_PASSWORD": password}, cookie: "nuxt-session",
		seal: func(user string) (string, error) {
			return mint.Seal{Password: password}.Of(map[string]any{"id": "x", "createdAt": 1, "data": map[string]any{"user": map[string]any{"id": user}}})
		},
	},
	{
		name: "h3 2", directives: []string{"format h3 {", "secret `" + password + "`", "cookie sid", "subject data.uid", "version_2", "}"}, cookie: "sid",
		seal: func(user string) (string, error) {
			return mint.Seal{Password: password, Iterations: 8192}.Of(map[string]any{"id": "x", "createdAt": 1, "data": map[string]any{"uid": user}})
		},
	},
	{
		name: "React Router", variables: map[string]string{"SESSION_SECRET": "old,new"}, cookie: "__session",
		seal: func(user string) (string, error) { return mint.Remix("new", map[string]any{"userId": user}) },
	},
	{
		name: "Auth0", variables: map[string]string{"AUTH0_SECRET": standardapp.Secret}, directives: []string{"format auth0 {", "subject user.sub", "}", "users {", "id sub", "}"}, cookie: "__session",
		schema: []string{`alter table "User" add sub text`, `update "User" set sub = id`},
		seal: func(user string) (string, error) {
			return mint.Auth0(standardapp.Secret, nil, map[string]any{"user": map[string]any{"sub": user}, "exp": time.Now().Add(time.Hour).Unix()})
		},
	},
	{
		name: "Supabase", variables: map[string]string{"SUPABASE_JWT_SECRET": standardapp.Secret}, cookie: "sb-project-auth-token",
		schema: []string{
			`create schema auth`, `create table auth.users (id uuid primary key, banned_until timestamptz, deleted_at timestamptz)`, `alter table auth.users enable row level security`,
			`insert into auth.users values ('` + user("live") + `'), ('` + user("gone") + `')`,
		},
		remove: `delete from auth.users where id = '` + user("gone") + `'`,
		seal: func(name string) (string, error) {
			token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": user(name), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(standardapp.Secret))
			if err != nil {
				return "", err
			}
			return mint.Supabase(token, map[string]any{"id": user("live")})
		},
	},
}

// TestSessionsOfOtherLibrariesEnd lets a user of each library be deleted.
func TestSessionsOfOtherLibrariesEnd(t *testing.T) {
	for _, l := range libraries {
		t.Run(l.name, func(t *testing.T) {
			name := standardapp.NewDatabase(t)
			standardapp.Execute(t, name, append([]string{`insert into "User" values ('gone')`}, l.schema...)...)
			standardapp.OtherEnvironment(t, standardapp.Server.DSN(name), l.variables)
			app := caddytest.NewApp(t)
			base := caddytest.Start(t, caddytest.Site(append(append([]string{"stale_session {", "poll 50ms", "sign_in /login"}, l.directives...), "}", app.Proxy())...))
			cookie := func(user string) string {
				value, err := l.seal(user)
				if err != nil {
					t.Fatal(err)
				}
				return l.cookie + "=" + value
			}
			live, gone := cookie("live"), cookie("gone")
			for _, c := range []string{gone, live, "theme=dark; " + live} {
				if status := caddytest.Ask(t, base, c); status != http.StatusOK {
					t.Errorf("before: status %d", status)
				}
			}
			if l.remove == "" {
				l.remove = `delete from "User" where id = 'gone'`
			}
			standardapp.Execute(t, name, l.remove)
			eventually.Holds(t, "the session is refused", func() bool { return caddytest.Ask(t, base, gone) == http.StatusUnauthorized })
			response := caddytest.Do(t, http.MethodGet, base, http.Header{"Cookie": {gone}, "Accept": {"text/html"}, "Sec-Fetch-Mode": {"navigate"}})
			if cleared := response.Cookies(); response.StatusCode != http.StatusSeeOther || len(cleared) == 0 || cleared[0].Name != l.cookie || cleared[0].MaxAge >= 0 {
				t.Errorf("a person gets %d and %v", response.StatusCode, cleared)
			}
			if status := caddytest.Ask(t, base, live); status != http.StatusOK {
				t.Errorf("somebody else: status %d", status)
			}
		})
	}
}

// TestAGuessEndsNobodyBeforeSomebodyWasFound has sessions that name something else than
// the users' ids, where the library's own examples have those.
func TestAGuessEndsNobodyBeforeSomebodyWasFound(t *testing.T) {
	name := standardapp.NewDatabase(t)
	standardapp.OtherEnvironment(t, standardapp.Server.DSN(name), map[string]string{"SESSION_SECRET": standardapp.Secret})
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "poll 50ms", "sign_in /login", "}", app.Proxy()))
	for range 3 {
		if status := caddytest.Ask(t, base, remix(t, "number 7 of another system")); status != http.StatusOK {
			t.Fatalf("a session that may be live: status %d", status)
		}
	}
	if status := caddytest.Ask(t, base, remix(t, "live")); status != http.StatusOK {
		t.Fatalf("a live session: status %d", status)
	}
	if status := caddytest.Ask(t, base, remix(t, "gone")); status != http.StatusUnauthorized {
		t.Errorf("a stale session, once the guess is right: status %d", status)
	}
}

// startBesideReactRouter starts an app with sessions of Auth.js and of React Router, of
// which a user was found.
func startBesideReactRouter(t *testing.T) (app *caddytest.App, base string) {
	t.Helper()
	name := standardapp.NewDatabase(t)
	standardapp.OtherEnvironment(t, standardapp.Server.DSN(name), map[string]string{"SESSION_SECRET": standardapp.Secret})
	t.Setenv("NEXTAUTH_SECRET", standardapp.Secret)
	app = caddytest.NewApp(t)
	base = caddytest.Start(t, caddytest.Site("stale_session {", "poll 50ms", "sign_in /login", "}", app.Proxy()))
	if status := caddytest.Ask(t, base, remix(t, "live")); status != http.StatusOK {
		t.Fatalf("a live session of one library: status %d", status)
	}
	return app, base
}

// TestOneLibraryProvesNothingOfAnother has an app that moves from Auth.js to React Router,
// which may keep its users in another table.
func TestOneLibraryProvesNothingOfAnother(t *testing.T) {
	_, base := startBesideReactRouter(t)
	if status := caddytest.Ask(t, base, standardapp.Session(t, "in another table")); status != http.StatusOK {
		t.Fatalf("a session of the other that may be live: status %d", status)
	}
	if status := caddytest.Ask(t, base, standardapp.Session(t, "live")); status != http.StatusOK {
		t.Fatalf("a live session of the other: status %d", status)
	}
	if status := caddytest.Ask(t, base, standardapp.Session(t, "gone")); status != http.StatusUnauthorized {
		t.Errorf("a stale session of the other: status %d", status)
	}
}

// TestWhatWasFoundCountsAfterTheKeysWereReplaced has users of two libraries, of which one
// keeps them in another table.
func TestWhatWasFoundCountsAfterTheKeysWereReplaced(t *testing.T) {
	app, _ := startBesideReactRouter(t)
	if err := caddytest.Load(caddytest.Site("stale_session {", "poll 50ms", "sign_in /login", "secret `the next one` {env.NEXTAUTH_SECRET}", "}", app.Proxy())); err != nil {
		t.Fatal(err)
	}
	if status := caddytest.Ask(t, caddytest.Address(t), standardapp.Session(t, "in another table")); status != http.StatusOK {
		t.Errorf("a session of the other that may be live: status %d", status)
	}
}

// TestOneTableProvesNothingOfAnother has two handlers that read the same sessions, and
// look users up in different tables.
func TestOneTableProvesNothingOfAnother(t *testing.T) {
	name := standardapp.NewDatabase(t)
	standardapp.Execute(t, name, "create table admins (id text primary key)", "insert into admins values ('admin')")
	standardapp.OtherEnvironment(t, standardapp.Server.DSN(name), map[string]string{"SESSION_SECRET": standardapp.Secret})
	t.Setenv("NEXTAUTH_SECRET", standardapp.Secret)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site(
		"route /admin* {", "stale_session {", "poll 50ms", "sign_in /login", "users admins", "}", app.Proxy(), "}",
		"route {", "stale_session {", "poll 50ms", "sign_in /login", "}", app.Proxy(), "}"))
	if status := caddytest.Ask(t, base, remix(t, "live")); status != http.StatusOK {
		t.Fatalf("a live session: status %d", status)
	}
	if status := caddytest.Ask(t, base+"/admin", standardapp.Session(t, "admin")); status != http.StatusOK {
		t.Fatalf("a live session of another library: status %d", status)
	}
	if status := caddytest.Ask(t, base+"/admin", remix(t, "live")); status != http.StatusOK {
		t.Errorf("where nobody was found yet: status %d", status)
	}
}

// remix returns the cookie of a user's session.
func remix(t *testing.T, user string) string {
	t.Helper()
	value, err := mint.Remix(standardapp.Secret, map[string]any{"userId": user})
	if err != nil {
		t.Fatal(err)
	}
	return "__session=" + value
}

// TestWhoIsNotSignedInPasses has sessions without a user, which every visitor has, and
// one that the app will refresh.
func TestWhoIsNotSignedInPasses(t *testing.T) {
	name := standardapp.NewDatabase(t)
	standardapp.OtherEnvironment(t, standardapp.Server.DSN(name), map[string]string{"NUXT_SESSION_PASSWORD": password, "SUPABASE_JWT_SECRET": standardapp.Secret})
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "on_error deny", "users User", "}", app.Proxy()))
	visitor, err := mint.Seal{Password: password}.Of(map[string]any{"id": "x", "createdAt": 1, "data": map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": user("gone"), "exp": time.Now().Add(-time.Hour).Unix()}).SignedString([]byte(standardapp.Secret))
	if err != nil {
		t.Fatal(err)
	}
	expired, err := mint.Supabase(token, nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, cookie := range map[string]string{
		"a visitor":                                "nuxt-session=" + visitor,
		"a session that the app can refresh":       "sb-x-auth-token=" + expired,
		"a verifier of a sign-in that is going on": "sb-x-auth-token-code-verifier=" + expired,
	} {
		if status := caddytest.Ask(t, base, cookie); status != http.StatusOK {
			t.Errorf("%s: status %d", what, status)
		}
	}
}

// TestASessionInAHeaderEnds has the header that h3 reads before the cookie.
func TestASessionInAHeaderEnds(t *testing.T) {
	name := standardapp.NewDatabase(t)
	standardapp.OtherEnvironment(t, standardapp.Server.DSN(name), map[string]string{"NUXT_SESSION_PASSWORD": password})
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "poll 50ms", "sign_in /login", "}", app.Proxy()))
	seal := func(user string) string {
		text, err := mint.Seal{Password: password}.Of(map[string]any{"id": "x", "createdAt": 1, "data": map[string]any{"user": map[string]any{"id": user}}})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const header = "X-Nuxt-Session-Session"
	status := func(header http.Header) int { return caddytest.Do(t, http.MethodGet, base, header).StatusCode }
	if got := status(http.Header{header: {seal("live")}}); got != http.StatusOK {
		t.Errorf("live: status %d", got)
	}
	if got := status(http.Header{header: {seal("gone")}}); got != http.StatusUnauthorized {
		t.Errorf("stale: status %d", got)
	}
	var reached http.Header
	app.Answer(func(_ http.ResponseWriter, r *http.Request) { reached = r.Header.Clone() })
	if got := status(http.Header{header: {seal("gone")}, "Cookie": {"nuxt-session=" + seal("live")}}); got != http.StatusOK || reached.Get(header) != "" || reached.Get("Cookie") == "" {
		t.Errorf("a stale one before a live one: status %d, and the app gets %v", got, reached)
	}
}

// TestASessionOfSupabaseThatWasSignedOutElsewhereEnds deletes its row, as signing out
// does, for a role with no more rights than it needs.
func TestASessionOfSupabaseThatWasSignedOutElsewhereEnds(t *testing.T) {
	name := standardapp.NewDatabase(t)
	role := "reader_of_" + name
	standardapp.Execute(t, name,
		`create schema auth`, `create table auth.users (id uuid primary key)`, `create table auth.sessions (id uuid primary key, not_after timestamptz)`,
		`alter table auth.users enable row level security`, `alter table auth.sessions enable row level security`,
		`insert into auth.users values ('`+user("live")+`')`, `insert into auth.sessions values ('`+user("live")+`'), ('`+user("gone")+`')`,
		`create role `+role+` login`, `grant usage on schema auth to `+role, `grant select on auth.users, auth.sessions to `+role,
		`create policy stale_session on auth.users for select to `+role+` using (true)`, `create policy stale_session on auth.sessions for select to `+role+` using (true)`)
	standardapp.OtherEnvironment(t, strings.Replace(standardapp.Server.DSN(name), "postgres@", role+"@", 1), map[string]string{"SUPABASE_JWT_SECRET": standardapp.Secret})
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "poll 50ms", "sign_in /login", "}", app.Proxy()))
	here, elsewhere := standardapp.SupabaseSession(t, user("live"), user("live")), standardapp.SupabaseSession(t, user("live"), user("gone"))
	for _, c := range []string{here, elsewhere} {
		if status := caddytest.Ask(t, base, c); status != http.StatusOK {
			t.Errorf("before: status %d", status)
		}
	}
	standardapp.Execute(t, name, `delete from auth.sessions where id = '`+user("gone")+`'`)
	eventually.Holds(t, "the session is refused", func() bool { return caddytest.Ask(t, base, elsewhere) == http.StatusUnauthorized })
	if status := caddytest.Ask(t, base, here); status != http.StatusOK {
		t.Errorf("the other session of the same user: status %d", status)
	}
}

// TestTheKeySetOfASupabaseProjectIsFound has nothing but the project's address.
func TestTheKeySetOfASupabaseProjectIsFound(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	project := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/auth/v1/.well-known/jwks.json" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	}))
	t.Cleanup(project.Close)
	name := standardapp.NewDatabase(t)
	standardapp.Execute(t, name, `create schema auth`, `create table auth.users (id uuid primary key)`, `insert into auth.users values ('`+user("live")+`')`)
	standardapp.OtherEnvironment(t, standardapp.Server.DSN(name), map[string]string{"NEXT_PUBLIC_SUPABASE_URL": project.URL + "/"})
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "poll 50ms", "sign_in /login", "}", app.Proxy()))
	token := func(subject string) string {
		made := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": subject, "exp": time.Now().Add(time.Hour).Unix()})
		made.Header["kid"] = "k"
		text, err := made.SignedString(private)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	status := func(subject string) int {
		return caddytest.Do(t, http.MethodGet, base, http.Header{"Authorization": {"Bearer " + token(subject)}}).StatusCode
	}
	live := token(user("live"))
	eventually.Holds(t, "a stale token is refused, once the keys are there and somebody was found", func() bool {
		if got := caddytest.Do(t, http.MethodGet, base, http.Header{"Authorization": {"Bearer " + live}}).StatusCode; got != http.StatusOK {
			t.Errorf("a live token: status %d", got)
		}
		return status(user("gone")) == http.StatusUnauthorized
	})
}
