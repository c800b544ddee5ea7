package libraries

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// apps are what is set up for the app with a library: its environment variables, which
// Caddy has too, and lines of the Caddyfile. docs/formats has the same.
var apps = map[string]struct {
	environment map[string]string
	directives  string
}{
	"iron-session 8":         {map[string]string{"SECRET_COOKIE_PASSWORD": password}, ""},
	"iron-session 9":         {map[string]string{"IRON_SESSION_PASSWORD": password}, ""},
	"iron-session 9, chunks": {map[string]string{"SESSION_PASSWORD": password}, "format iron_session {\ncookie session\n}"},
	"h3 1":                   {map[string]string{"NUXT_SESSION_PASSWORD": password}, ""},
	"h3 2":                   {map[string]string{"NUXT_SESSION_PASSWORD": password}, "format h3 {\nversion_2\n}"},
	"h3 2, chunks":           {map[string]string{"NUXT_SESSION_PASSWORD": password}, "format h3 {\nversion_2\n}"},
	"Remix":                  {map[string]string{"SESSION_SECRET": password}, ""},
	"React Router":           {map[string]string{"SESSION_SECRET": password}, ""},
	"Auth0":                  {map[string]string{"AUTH0_SECRET": password}, "format auth0 {\nsubject user.sub\n}\nusers users {\nid auth0_id\n}"},
	"Supabase":               {map[string]string{"SUPABASE_JWT_SECRET": password}, ""},
}

// The users of all apps, and those of Supabase, to which nobody has access who is not
// allowed past row-level security.
const users = `create table users (id text primary key, auth0_id text unique); insert into users values ('ada', 'ada'), ('bob', 'bob');
	create schema auth; create table auth.users (id text primary key, banned_until timestamptz, deleted_at timestamptz);
	alter table auth.users enable row level security; insert into auth.users values ('ada'), ('bob')`

// browser keeps cookies, and forgets them as it is told.
type browser struct {
	t    *testing.T
	base string
	jar  map[string]string
}

func (b *browser) send(method, path string) (status int, text string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, b.base+path, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	for _, name := range slices.Sorted(maps.Keys(b.jar)) {
		request.Header.Add("Cookie", name+"="+b.jar[name])
	}
	if lines := request.Header["Cookie"]; len(lines) > 1 {
		request.Header.Set("Cookie", strings.Join(lines, "; "))
	}
	response, err := caddytest.Client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	for _, c := range response.Cookies() {
		if c.MaxAge < 0 {
			delete(b.jar, c.Name)
		} else {
			b.jar[c.Name] = c.Value
		}
	}
	read, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode, string(read)
}

// is fails unless the app greets somebody.
func (b *browser) is(when, want string) {
	b.t.Helper()
	if status, text := b.send(http.MethodGet, "/"); status != http.StatusOK || text != "hello "+want {
		b.t.Errorf("%s: %d %q, want hello %s", when, status, text, want)
	}
}

// TestADeletedUserIsSignedOutOfTheApp deletes a user of each app, which would greet them
// on: it asks no database.
func TestADeletedUserIsSignedOutOfTheApp(t *testing.T) {
	server := pgtest.StartFor(t)
	database, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute := func(sql string) {
		t.Helper()
		if err := server.Exec(t.Context(), database, sql); err != nil {
			t.Fatal(err)
		}
	}
	execute(users)
	_, out := node(t, "server.mjs")
	started := json.NewDecoder(out)
	for range apps {
		var app struct{ Name, Address string }
		if err := started.Decode(&app); err != nil {
			t.Fatal(err)
		}
		t.Run(app.Name, func(t *testing.T) {
			for _, a := range apps {
				for name := range a.environment {
					t.Setenv(name, "")
				}
			}
			for _, name := range []string{"AUTH_SECRET", "NEXTAUTH_SECRET", "BETTER_AUTH_SECRET", "BETTER_AUTH_SECRETS", "SUPABASE_URL", "NEXT_PUBLIC_SUPABASE_URL", "STALE_SESSION_MODE"} {
				t.Setenv(name, "")
			}
			t.Setenv("DATABASE_URL", server.DSN(database))
			for name, value := range apps[app.Name].environment {
				t.Setenv(name, value)
			}
			base := caddytest.Start(t, caddytest.Site("@pages not path /sign-in/*", "stale_session @pages {", "poll 50ms", "sign_in /login", apps[app.Name].directives, "}", "reverse_proxy "+app.Address))
			ada, bob := &browser{t, base, make(map[string]string)}, &browser{t, base, make(map[string]string)}
			ada.is("without a session", "stranger")
			for user, b := range map[string]*browser{"ada": ada, "bob": bob} {
				b.send(http.MethodPost, "/sign-in/"+user)
				b.is("signed in", user)
			}
			copied := &browser{t, base, maps.Clone(ada.jar)}
			execute("delete from users where id = 'ada'; delete from auth.users where id = 'ada'")
			eventually.Holds(t, "the user is sent to sign in", func() bool {
				status, text := ada.send(http.MethodGet, "/")
				return status == http.StatusSeeOther && !strings.Contains(text, "ada")
			})
			if len(ada.jar) > 1 { // but for the marker that she was told
				t.Errorf("the browser still has %v", slices.Sorted(maps.Keys(ada.jar)))
			}
			for range 3 {
				if _, text := copied.send(http.MethodPost, "/x"); strings.Contains(text, "ada") {
					t.Errorf("a copy of the session reaches the app: %q", text)
				}
			}
			bob.is("somebody else", "bob")
			execute("insert into users values ('ada', 'ada'); insert into auth.users values ('ada')")
			ada.send(http.MethodPost, "/sign-in/ada")
			eventually.Holds(t, "who is back can sign in", func() bool {
				_, text := ada.send(http.MethodGet, "/")
				return text == "hello ada"
			})
		})
	}
}
