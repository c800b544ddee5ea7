package answer

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
)

// TestTheFormThatTheClientFollows has a request of each framework's client, and the
// answer that takes its unmodified client to the sign-in page.
func TestTheFormThatTheClientFollows(t *testing.T) {
	const (
		admin = "/auth/signin?callbackUrl=%2Fadmin%3Fx%3D1&error=SessionRequired"
		plain = "/auth/signin?error=SessionRequired"

		remote = `[{"redirect":1},"/auth/signin?callbackUrl=%2Fadmin%3Fx%3D1\u0026error=SessionRequired"]`
	)
	from := func(name, value string) http.Header {
		return http.Header{name: {value}, "Referer": {"http://app.test/admin?x=1"}}
	}
	type members = map[string]any
	for name, c := range map[string]struct {
		method, target string
		header         http.Header
		status         int
		fields         map[string]string
		body           members // besides error, message and signIn; nil for no body
		signIn         string
	}{
		"a page":                              {"GET", "/admin?x=1", http.Header{"Sec-Fetch-Mode": {"navigate"}}, 303, map[string]string{"Location": admin}, nil, ""},
		"a form":                              {"POST", "/admin/save", from("Sec-Fetch-Mode", "navigate"), 303, map[string]string{"Location": admin}, nil, ""},
		"an Astro form":                       {"POST", "/admin?x=1&_action=save", http.Header{"Sec-Fetch-Mode": {"navigate"}}, 303, map[string]string{"Location": admin}, nil, ""},
		"a SvelteKit form without JavaScript": {"POST", "/admin?/save", from("Sec-Fetch-Mode", "navigate"), 303, map[string]string{"Location": admin}, nil, ""},
		"fetch":                               {"GET", "/api/admin", from("Accept", "*/*"), 401, nil, members{}, admin},
		"curl":                                {"GET", "/admin", nil, 401, nil, members{}, plain},
		"a page of another site":              {"POST", "/api", http.Header{"Referer": {"http://evil.test/x"}}, 401, nil, members{}, plain},
		"a Server Action":                     {"POST", "/admin?x=1", http.Header{"Next-Action": {"0042"}}, 401, map[string]string{"X-Action-Redirect": admin}, members{}, admin},
		"a Server Action that says its page":  {"POST", "/favicon.ico", from("Next-Action", "0042"), 401, map[string]string{"X-Action-Redirect": admin}, members{}, admin},
		"RSC":                                 {"GET", "/admin?x=1&_rsc=ab", http.Header{"Rsc": {"1"}}, 401, nil, members{}, plain},
		"pages router data":                   {"GET", "/_next/data/b/admin.json?x=1", from("X-Nextjs-Data", "1"), 401, nil, members{}, admin},
		"an enhanced action of SvelteKit": {
			"POST", "/admin?/save", from("X-Sveltekit-Action", "true"), 401, nil,
			members{"type": "redirect", "status": 303., "location": admin},
			admin,
		},
		"data of SvelteKit": {
			"GET", "/admin/__data.json?x=1&x-sveltekit-invalidated=01", nil, 200,
			map[string]string{"Stale-Session": "ended"},
			members{"type": "redirect", "status": 303., "location": admin},
			admin,
		},
		"a remote form of SvelteKit": {
			"POST", "/_app/remote/h/save", from("Content-Type", "application/x-sveltekit-formdata"), 200,
			map[string]string{"Stale-Session": "ended"},
			members{"type": "redirect", "status": 303., "location": admin, "data": remote},
			admin,
		},
		"a remote query of SvelteKit": {
			"GET", "/_app/remote/h/list", from("Accept", "*/*"), 200,
			map[string]string{"Stale-Session": "ended"},
			members{"type": "redirect", "status": 303., "location": admin, "data": remote},
			admin,
		},
		"a remote command of SvelteKit": {"POST", "/_app/remote/h/save", from("Content-Type", "application/json"), 401, nil, members{}, admin},
		"data of React Router": {
			"GET", "/admin.data?x=1&_routes=a", nil, 204,
			map[string]string{"X-Remix-Redirect": admin, "X-Remix-Status": "302", "X-Remix-Reload-Document": "true", "Stale-Session": "ended"},
			nil, "",
		},
		"an action of React Router": {
			"POST", "/admin.data", from("Accept", "*/*"), 204,
			map[string]string{"X-Remix-Redirect": admin, "X-Remix-Status": "302", "X-Remix-Reload-Document": "true"},
			nil, "",
		},
		"data of Remix": {"GET", "/admin?x=1&_data=routes%2Fadmin", nil, 204, map[string]string{"X-Remix-Redirect": admin}, nil, ""},
		"a server function of TanStack": {
			"POST", "/_serverFn/ab", from("X-Tsr-Serverfn", "true"), 401, nil,
			members{"isSerializedRedirect": true, "href": admin, "statusCode": 307.},
			admin,
		},
		"a server function of SolidStart": {"POST", "/_server", from("X-Server-Id", "x"), 401, map[string]string{"Location": admin, "X-Error": "true"}, members{}, admin},
		"an action of Astro": {
			"POST", "/_actions/save", from("Accept", "application/json"), 401, nil,
			members{"type": "AstroActionError", "code": "UNAUTHORIZED", "status": 401.},
			admin,
		},
		"an island of Astro": {"GET", "/_server-islands/Cart?e=", from("Accept", "*/*"), 401, nil, members{}, admin},
		"a server$ of Qwik":  {"POST", "/admin?x=1&qfunc=h", http.Header{"X-Qrl": {"h"}}, 401, nil, members{}, admin},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(c.method, "http://app.test"+c.target, http.NoBody)
			if c.header != nil {
				r.Header = c.header
			}
			w := httptest.NewRecorder()
			if err := newResponder(t, Answers{}).Stale(w, r, Ended{Names: []string{"s"}}); err != nil {
				t.Fatal(err)
			}
			h := w.Header()
			if w.Code != c.status || h.Get("Cache-Control") != "no-store" || len(h["Set-Cookie"]) != 1 {
				t.Errorf("status %d, header %v", w.Code, h)
			}
			for field, want := range c.fields {
				if h.Get(field) != want {
					t.Errorf("%s: %q, want %q", field, h.Get(field), want)
				}
			}
			if c.body == nil {
				if w.Body.Len() != 0 {
					t.Errorf("body %s", w.Body)
				}
				return
			}
			var got members
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || h.Get("Content-Type") != "application/json" {
				t.Fatalf("%s: %s, error %v", h.Get("Content-Type"), w.Body, err)
			}
			c.body["error"], c.body["message"], c.body["signIn"] = "stale_session", message, c.signIn
			if !reflect.DeepEqual(got, c.body) {
				t.Errorf("body %v, want %v", got, c.body)
			}
		})
	}
}

// TestRespondJSONIsAlwaysA401 has clients that would follow a 200 or 204.
func TestRespondJSONIsAlwaysA401(t *testing.T) {
	for _, target := range []string{"/admin", "/admin.data", "/admin/__data.json"} {
		w := httptest.NewRecorder()
		if err := newResponder(t, Answers{Respond: JSON}).Stale(w, httptest.NewRequest(http.MethodGet, target, http.NoBody), Ended{}); err != nil || w.Code != http.StatusUnauthorized || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: status %d, body %s, error %v", target, w.Code, w.Body, err)
		}
	}
}

func TestASignInPageOfAnotherSiteGetsAnAbsoluteWayBack(t *testing.T) {
	for name, c := range map[string]struct{ authURL, signIn, want string }{
		"another site's":                    {"", "https://id.example.com/login", "https://id.example.com/login?callbackUrl=http%3A%2F%2Fapp.test%2Fadmin&error=SessionRequired"},
		"another site's, AUTH_URL is known": {"https://www.app.test", "https://id.example.com/login", "https://id.example.com/login?callbackUrl=https%3A%2F%2Fwww.app.test%2Fadmin&error=SessionRequired"},
		"this site's":                       {"", "http://app.test/login", "http://app.test/login?callbackUrl=%2Fadmin&error=SessionRequired"},
		"a path":                            {"https://www.app.test", "/login", "/login?callbackUrl=%2Fadmin&error=SessionRequired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AUTH_URL", c.authURL)
			t.Setenv("NEXTAUTH_URL", "")
			r := httptest.NewRequest(http.MethodGet, "http://app.test/admin", http.NoBody)
			r.Header.Set("Sec-Fetch-Mode", "navigate")
			w := httptest.NewRecorder()
			if err := newResponder(t, Answers{SignIn: c.signIn}).Stale(w, r, Ended{}); err != nil || w.Header().Get("Location") != c.want {
				t.Errorf("location %q, error %v", w.Header().Get("Location"), err)
			}
		})
	}
}
