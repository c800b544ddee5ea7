package stalesession_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
)

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
	for host, says := range map[string]bool{"app.example.test": true, "localhost": false} {
		newDatabase(t)
		app := caddytest.NewApp(t)
		app.Answer(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, app.URL+"/login", http.StatusFound)
		})
		log, options := caddytest.NewLog(t)
		base := caddytest.Start(t, strings.Replace(caddytest.Site("stale_session", app.Proxy()), caddytest.Options, options, 1))
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/auth/signin", http.NoBody)
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
			t.Errorf("%s: said %t", host, !says)
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
