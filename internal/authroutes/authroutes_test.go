package authroutes

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
)

func newRoutes(t *testing.T, authURL string, paths ...string) *Routes {
	t.Helper()
	t.Setenv("AUTH_URL", authURL)
	t.Setenv("NEXTAUTH_URL", "")
	r, err := New(paths, environment.New())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHas(t *testing.T) {
	for name, c := range map[string]struct {
		authURL string
		paths   []string
		base    string
		has     []string
		hasNot  []string
	}{
		"by default": {
			"https://app.test", nil, "/api/auth",
			[]string{"/api/auth", "/api/auth/session", "/api/auth/register", "/API/Auth/session", "/auth/session", "/auth/callback/github", "/auth/signin"},
			[]string{"/", "/auth", "/api/authors", "/auth/profile", "/authors/session", "/x/auth/session"},
		},
		"a base path in AUTH_URL": {
			"https://app.test/shop/api/auth", nil, "/shop/api/auth",
			[]string{"/shop/api/auth/session", "/shop/api/auth/x"},
			[]string{"/shop/admin", "/api/auth/session", "/auth/session"},
		},
		"the app's path in AUTH_URL": {
			"https://app.test/shop", nil, "/shop",
			[]string{"/shop/session", "/shop/signin", "/shop/callback/x"},
			[]string{"/shop", "/shop/admin", "/shop/api/upload", "/shop/sessions"},
		},
		"as configured": {
			"https://app.test/shop",
			[]string{"/a/auth/", "/b"},
			"/a/auth",
			[]string{"/a/auth/session", "/a/auth/x", "/b/x", "/b"},
			[]string{"/shop/session", "/api/auth/session", "/bc"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoutes(t, c.authURL, c.paths...)
			if r.Base() != c.base {
				t.Errorf("base %q, want %q", r.Base(), c.base)
			}
			for _, path := range c.has {
				if !r.Has(path) {
					t.Errorf("%s is not one", path)
				}
			}
			for _, path := range c.hasNot {
				if r.Has(path) {
					t.Errorf("%s is one", path)
				}
			}
		})
	}
	for _, path := range []string{"auth", "/", "//auth", "https://app.test/auth", "{env.NOT_SET}"} {
		if _, err := New([]string{path}, environment.New()); err == nil || !strings.Contains(err.Error(), "auth_path") {
			t.Errorf("%q: error %v", path, err)
		}
	}
}

func TestLearning(t *testing.T) {
	const csrf, callback = "__Host-authjs.csrf-token=x; Path=/", "__Secure-authjs.callback-url=y; Path=/"
	for name, c := range map[string]struct {
		path string
		set  []string
		want string
	}{
		"by the session endpoint":           {"/shop/auth/session", []string{"theme=dark", csrf}, "/shop/auth"},
		"by the sign-in page":               {"/auth/signin", []string{callback}, "/auth"},
		"by a provider":                     {"/auth/signin/github", []string{callback}, "/auth"},
		"by a callback":                     {"/v/auth/callback/github", []string{callback}, "/v/auth"},
		"of NextAuth v4":                    {"/v/api/auth/csrf", []string{"next-auth.csrf-token=x"}, "/v/api/auth"},
		"a session says nothing":            {"/shop/session", []string{"authjs.session-token=x"}, "/api/auth"},
		"nor does a Server Action":          {"/login", []string{callback}, "/api/auth"},
		"nor another app's cookie":          {"/shop/session", []string{"csrf-token=x"}, "/api/auth"},
		"a path that cannot be in a header": {"/sh op\n/auth/session", []string{csrf}, "/api/auth"},
		"the root":                          {"/session", []string{csrf}, "/api/auth"},
		"a path that names another host":    {"//evil.example/auth/signin", []string{csrf}, "/api/auth"},
		"a path with an empty segment":      {"/shop//auth/signin", []string{csrf}, "/api/auth"},
		"a path with dots":                  {"/shop/../auth/signin", []string{csrf}, "/api/auth"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoutes(t, "")
			r.Learn(http.MethodGet, c.path, http.Header{"Set-Cookie": c.set})
			if r.Base() != c.want || !r.Has(c.want+"/session") || r.Has(c.want+"/admin") && c.want != nextBase {
				t.Errorf("base %q, want %q", r.Base(), c.want)
			}
			fixed := newRoutes(t, "", "/fixed")
			if fixed.Learn(http.MethodGet, c.path, http.Header{"Set-Cookie": c.set}); fixed.Base() != "/fixed" {
				t.Errorf("base %q, though configured", fixed.Base())
			}
		})
	}
	// A form on a page of the app's own calls signIn or signOut.
	r := newRoutes(t, "")
	for _, path := range []string{"/account/signin", "/account/signout"} {
		if r.Learn(http.MethodPost, path, http.Header{"Set-Cookie": {callback}}); r.Base() != nextBase {
			t.Errorf("base %q, learned from a form at %s", r.Base(), path)
		}
	}
	if other := r.Other("/api/auth/signin"); other != "/auth" || r.Base() != "/auth" || r.Other("/api/auth/signin") != "" {
		t.Errorf("the other base path is %q, then %q", other, r.Base())
	}
}

func TestAction(t *testing.T) {
	r := newRoutes(t, "")
	for path, want := range map[string]string{
		"/api/auth/clear-session": "clear-session", "/auth/clear-session": "clear-session", "/auth/callback/github": "callback/github",
		"/clear-session": "", "/api/auth": "", "/api/auth/x/clear-session": "x/clear-session", "/auth/x": "",
	} {
		if got := r.Action(path); r.Has(path) && got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for authURL, want := range map[string]string{"https://app.test/shop": "/shop", "https://app.test/shop/auth": "", "https://app.test": ""} {
		if got := newRoutes(t, authURL).Unclear(); got != want {
			t.Errorf("%s: %q, want %q", authURL, got, want)
		}
	}
}
