package streams

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// ada is a user of Supabase.
const ada = "00000000-0000-4000-8000-000000000001"

// betterAuthTable creates the table of sessions.
const betterAuthTable = `create table session (token text primary key, "userId" text not null references "User" on delete cascade, "createdAt" timestamptz not null default now(), "expiresAt" timestamptz not null)`

// betterAuthToken returns the cookie of a session of Better Auth.
func betterAuthToken(id string) string {
	mac := hmac.New(sha256.New, []byte(standardapp.Secret))
	mac.Write([]byte(id))
	return "better-auth.session_token=" + url.QueryEscape(id+"."+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// betterAuthCache returns the cookies of a session of Better Auth with a cookie cache.
func betterAuthCache(id, user string) string {
	const iso = "2006-01-02T15:04:05.000Z"
	now := time.Now().UTC()
	payload := fmt.Sprintf(`{"session":{"expiresAt":"%s","token":"%s","createdAt":"%s","userId":"%s"},"user":{"id":"%s"},"updatedAt":%d,"version":"1"}`,
		now.Add(24*time.Hour).Format(iso), id, now.Add(-time.Hour).Format(iso), user, user, now.UnixMilli())
	ends := now.Add(5 * time.Minute).UnixMilli()
	mac := hmac.New(sha256.New, []byte(standardapp.Secret))
	fmt.Fprintf(mac, `%s,"expiresAt":%d}`, strings.TrimSuffix(payload, "}"), ends)
	envelope := fmt.Sprintf(`{"session":%s,"expiresAt":%d,"signature":"%s"}`, payload, ends, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
	return betterAuthToken(id) + "; better-auth.session_data=" + base64.RawURLEncoding.EncodeToString([]byte(envelope))
}

// TestAStreamEndsWhenItsSessionWasSignedOutElsewhere and not only by the sweep, by which
// that of a site without polls ends. Others of the same user go on, and so do all while
// nobody can look. A reload changes nothing.
func TestAStreamEndsWhenItsSessionWasSignedOutElsewhere(t *testing.T) {
	betterAuth := []string{betterAuthTable, `insert into session (token, "userId", "expiresAt") select g, 'live', now() + interval '1 day' from generate_series(1, 3) g`}
	uuid := func(session string) string { return "abcdef00-0000-4000-8000-00000000000" + session }
	for name, c := range map[string]struct {
		variable      string
		users         string
		schema        []string
		table, column string
		id            func(session string) string
		cookie        func(id string) string
	}{
		"of Better Auth, with a cookie cache": {
			"BETTER_AUTH_SECRET", "User", betterAuth, "session", "token", strings.Clone,
			func(id string) string { return betterAuthCache(id, "live") },
		},
		"of Better Auth, which the app looks up": {"BETTER_AUTH_SECRET", "User", betterAuth, "session", "token", strings.Clone, betterAuthToken},
		"of Supabase": {
			"SUPABASE_JWT_SECRET", "auth.users",
			[]string{
				`create schema auth`, `create table auth.users (id uuid primary key)`, `insert into auth.users values ('` + ada + `')`,
				`create table auth.sessions (id uuid primary key)`, `insert into auth.sessions select ('` + uuid("") + `' || g)::uuid from generate_series(1, 3) g`,
			},
			"auth.sessions", "id", uuid, func(id string) string { return standardapp.SupabaseSession(t, ada, id) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			standardapp.Execute(t, database, c.schema...)
			standardapp.OtherEnvironment(t, standardapp.Server.DSN(database), map[string]string{c.variable: standardapp.Secret})
			app := newStreamsApp(t, (*httptest.Server).Start)
			to := "reverse_proxy " + app.Listener.Addr().String()
			site := func(path, poll string) []string {
				return []string{"handle " + path + " {", "stale_session {", "poll " + poll, "sign_in /login", "users " + c.users, "}", to, "}"}
			}
			sites := append(site("/events/unwatched", "off"), site("/events", "50ms")...)
			at := startFor(t, "h1", sites...)
			open := func(path, session string) *http.Response { return at.open(t, path, c.cookie(c.id(session))) }
			unwatched := open("/events/unwatched", "1")
			gone, later, live := open("/events", "1"), open("/events", "2"), open("/events", "3")
			endsAlone := func(stream *http.Response) {
				t.Helper()
				ends(t, stream)
				if path := <-app.ended; path != "events" || len(app.ended) > 0 {
					t.Errorf("%s has ended, and %d others", path, len(app.ended))
				}
			}
			standardapp.Execute(t, database, fmt.Sprintf("delete from %s where %s = '%s'", c.table, c.column, c.id("1")))
			endsAlone(gone)
			if err := caddytest.Load(caddytest.Site(append(sites, "header X-Reloaded yes")...)); err != nil {
				t.Fatal(err)
			}
			standardapp.Execute(t, database, fmt.Sprintf("alter table %s rename %s to hidden", c.table, c.column), fmt.Sprintf("delete from %s where hidden = '%s'", c.table, c.id("2")))
			goesOn(t, app, later, live)
			standardapp.Execute(t, database, fmt.Sprintf("alter table %s rename hidden to %s", c.table, c.column))
			endsAlone(later)
			goesOn(t, app, unwatched, live)
		})
	}
}

// TestAStreamOfASessionThatTheAppLooksUpEndsWithItsUser although its row is gone, too.
func TestAStreamOfASessionThatTheAppLooksUpEndsWithItsUser(t *testing.T) {
	name := standardapp.NewDatabase(t)
	standardapp.Execute(t, name, `insert into "User" values ('gone')`,
		betterAuthTable,
		`insert into session (token, "userId", "expiresAt") select id || '-session', id, now() + interval '1 day' from "User"`)
	standardapp.OtherEnvironment(t, standardapp.Server.DSN(name), map[string]string{"BETTER_AUTH_SECRET": standardapp.Secret})
	app := newStreamsApp(t, (*httptest.Server).Start)
	c := startFor(t, "h1", "stale_session {", "poll 50ms", "sign_in /login", "users User", "}", "reverse_proxy "+app.Listener.Addr().String())
	gone, live := c.open(t, "/events", betterAuthToken("gone-session")), c.open(t, "/events", betterAuthToken("live-session"))
	standardapp.Execute(t, name, `delete from "User" where id = 'gone'`)
	ends(t, gone)
	goesOn(t, app, live)
}

// TestALongPollOfAReplacedSessionLeavesTheNextOneAlone because its answer may come after the
// cookies of that: Better Auth begins another session when a password is changed.
func TestALongPollOfAReplacedSessionLeavesTheNextOneAlone(t *testing.T) {
	for name, cookie := range map[string]func(id string) string{
		"with a cookie cache":    func(id string) string { return betterAuthCache(id, "live") },
		"which the app looks up": betterAuthToken,
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			standardapp.Execute(t, database, betterAuthTable, `insert into session (token, "userId", "expiresAt") values ('before', 'live', now() + interval '1 day')`)
			standardapp.OtherEnvironment(t, standardapp.Server.DSN(database), map[string]string{"BETTER_AUTH_SECRET": standardapp.Secret})
			app := newStreamsApp(t, (*httptest.Server).Start)
			c := startFor(t, "h1", "stale_session {", "poll 50ms", "sign_in /login", "users User", "}", "reverse_proxy "+app.Listener.Addr().String())
			ask := func() (*http.Response, error) {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.base+"/poll", http.NoBody)
				if err != nil {
					return nil, err
				}
				request.Header.Set("Cookie", cookie("before"))
				response, err := c.http.Do(request)
				if err == nil {
					err = response.Body.Close()
				}
				return response, err
			}
			type answer struct {
				response *http.Response
				err      error
			}
			answered := make(chan answer)
			go func() {
				response, err := ask()
				answered <- answer{response, err}
			}()
			<-app.arrived
			standardapp.Execute(t, database, `begin; delete from session; insert into session (token, "userId", "expiresAt") values ('after', 'live', now() + interval '1 day'); commit`)
			polled := <-answered
			if polled.err != nil || polled.response.StatusCode != http.StatusUnauthorized {
				t.Fatal(polled.response, polled.err)
			}
			if cookies := polled.response.Cookies(); len(cookies) > 0 {
				t.Errorf("it sets %v", cookies)
			}
		})
	}
}
