package stalesession_test

import (
	"context"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
)

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
