package scope

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/authroutes"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
)

// nextAuth returns the auth routes below /api/auth.
func nextAuth(t *testing.T) *authroutes.Routes {
	t.Helper()
	routes, err := authroutes.New([]string{"/api/auth"}, environment.New())
	if err != nil {
		t.Fatal(err)
	}
	return routes
}

// readPath sets the path of a URL, as a request line has it.
func readPath(u *url.URL, text string) error {
	read, err := url.ParseRequestURI(text)
	if err == nil {
		u.Path, u.RawPath, u.Opaque = read.Path, read.RawPath, read.Opaque
	}
	return err
}

// TestALongUnusualPathIsGuardedUnread has paths with thousands of segments: reading
// them in every way took 60 ms.
func TestALongUnusualPathIsGuardedUnread(t *testing.T) {
	guard := caddyhttp.MatchPath{"/admin*"}
	if err := guard.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	rules := New(Routes{}, caddyhttp.MatcherSets{{guard}}, nextAuth(t), url.URL{Path: "/auth/signin"}, "")
	for _, piece := range []string{"/;", "/%2e", "/%252e", "//a", "/_next/data/", "%252525", `/\`, "/a"} {
		for _, size := range []int{1_000, 15_000} {
			r := httptest.NewRequest(http.MethodGet, "http://app.test/", nil)
			if err := readPath(r.URL, "/x"+strings.Repeat(piece, size/len(piece))); err != nil {
				t.Fatal(err)
			}
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), new(caddyhttp.Server))
			want := Stripped
			if len(r.URL.EscapedPath()) > maxUnusual && unusual(r.URL) {
				want = Guarded
			}
			if got, err := rules.Of(r); got != want || err != nil {
				t.Errorf("%d bytes of %q: %s, %v", size, piece, got, err)
			}
			if n := testing.AllocsPerRun(3, func() { _, _ = rules.Of(r) }); n > 1_000 {
				t.Errorf("%d bytes of %q: %.0f allocations", size, piece, n)
			}
		}
	}
}

// TestNoWayToWriteAPathLeadsPastTheGuard has paths that some app parses as one
// below /admin or /api/admin.
func TestNoWayToWriteAPathLeadsPastTheGuard(t *testing.T) {
	guard := caddyhttp.MatchPath{"/admin*", "/api/admin*"}
	if err := guard.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	for _, scrub := range []string{"", off, scrubAll} {
		rules := New(Routes{Scrub: scrub}, caddyhttp.MatcherSets{{guard}}, nextAuth(t), url.URL{Path: "/auth/signin"}, "")
		for _, text := range []string{
			"/admin", "/%61dmin", "/ADMIN", "//admin", "///admin", "/./admin", "/x/../admin", "/x/%2e%2e/admin", "/x/.%2E/admin", "/admin;x", "/;x/admin",
			"/admin/", "/admin%00", "/admin%20", "/admin.rsc", "/admin%3fx", "/admin%23x",
			"/admin/../x", "/admin/%2e%2e/x", "/admin/x/../../../y", "/admin/x%2f..%2f..%2f..%2fy", "/admin/x%5c..%5c..%5c..%5cy", "/admin/..;/x",
			"/x/../admin/a%2f..%2f..%2fy", "/x%2f..%2fadmin", "/x%5c..%5cadmin", "/%5cadmin", `/x\..\admin`, `/\admin`,
			"//host/admin", "//host:80/admin", "//user@host/admin", "http://host/admin", "http:////host/admin",
			"x:http://host/admin", "http:http://host/admin", "mailto:admin",
			"/%2561dmin", "/%252561dmin", "/x%252f..%252fadmin", "/x/%252e%252e/admin",
			"/api/auth/../admin", "/api/auth/%2e%2e/admin", "/api/auth/..%2fadmin", "/api/auth/callback/x/../../../admin/y", "/auth/signin/../../admin",
			"/api/admin/x/../../auth/session", "/api/admin/..%2fauth/session",
		} {
			r := httptest.NewRequest(http.MethodGet, "http://app.test/", nil)
			if err := readPath(r.URL, text); err != nil {
				t.Fatal(err)
			}
			r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
			if got, err := rules.Of(r); err != nil || got != Guarded {
				t.Errorf("scrub %q: %s is %s, error %v", scrub, text, got, err)
			}
			if odd(r.URL) && rules.SigningIn(r) {
				t.Errorf("%s signs in", text)
			}
		}
	}
}

func FuzzReadings(f *testing.F) {
	for _, text := range []string{"/a/../b", "/a%2f..%2fb", "//h/a", "/%2561", `/a\b;c/d`, "/_next/data/b/index/a.json", "/a/__data.json", "//a/..data", "/.", "/%", "/;", "//"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var u url.URL
		if readPath(&u, text) != nil || u.Opaque != "" || u.Path == "" || u.Path[0] != '/' {
			return
		}
		all := readings(&u)
		if all[0] != u.Path || len(all) > 3*37 {
			t.Errorf("%q: %d readings, the first %q", text, len(all), all[0])
		}
		for _, reading := range all[1:] {
			if reading == "" || reading[0] != '/' || path.Clean(reading) != reading {
				t.Errorf("%q can be read as %q", text, reading)
			}
		}
		if cleaned := path.Clean(u.Path); !odd(&u) && cleaned != strings.TrimSuffix(u.Path, "/") && u.Path != "/" {
			t.Errorf("%q is not odd, but becomes %q", u.Path, cleaned)
		}
	})
}

func TestOf(t *testing.T) {
	guard := caddyhttp.MatchPath{"/admin*", "/api/*"}
	if err := guard.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	guarded := caddyhttp.MatcherSets{{guard}}

	for name, c := range map[string]struct {
		scrub string
		slash bool   // the sign-in page is configured with a slash at its end
		all   bool   // guard every route
		none  bool   // guard no route of these
		asked string // before a rewrite; empty for none
		path  string
		want  Scope
	}{
		"a guarded page":                                 {path: "/admin/users", want: Guarded},
		"a guarded path in other case":                   {path: "/ADMIN", want: Guarded},
		"a public page":                                  {scrub: scrubAuth, path: "/", want: Passed},
		"a public page by default":                       {path: "/", want: Stripped},
		"a hidden file by default":                       {path: "/.well-known/x", want: Stripped},
		"a static file by default":                       {path: "/_next/static/x.js", want: Stripped}, // an app's middleware may run there
		"a public page with scrub all":                   {scrub: scrubAll, path: "/", want: Stripped},
		"a guarded page with scrub all":                  {scrub: scrubAll, path: "/admin", want: Guarded},
		"the session endpoint, though matched":           {path: "/api/auth/session", want: Stripped},
		"the auth base path":                             {path: "/api/auth", want: Stripped},
		"a path that only begins like the auth routes":   {path: "/api/authors", want: Guarded},
		"the sign-in page":                               {path: "/auth/signin", want: Stripped},
		"the sign-in page with a slash":                  {path: "/auth/signin/", want: Stripped},
		"the sign-in page when everything is guarded":    {all: true, path: "/auth/signin", want: Stripped},
		"the sign-in page, configured with a slash":      {slash: true, path: "/auth/signin", want: Stripped},
		"a page below the sign-in page":                  {scrub: scrubAuth, path: "/auth/signin/help", want: Passed},
		"any page when everything is guarded":            {all: true, path: "/", want: Guarded},
		"the session endpoint with scrub off":            {scrub: off, path: "/api/auth/session", want: Passed},
		"the sign-in page, all guarded, scrub off":       {scrub: off, all: true, path: "/auth/signin", want: Passed},
		"the clear path":                                 {path: "/api/auth/clear-session", want: Clearing},
		"below the clear path":                           {path: "/api/auth/clear-session/x", want: Stripped},
		"a rewrite away from the sign-in page":           {asked: "/auth/signin", path: "/admin/login", want: Stripped},
		"a rewrite to a guarded page":                    {asked: "/dashboard", path: "/admin", want: Guarded},
		"a rewrite of a guarded page to a public one":    {scrub: scrubAuth, asked: "/admin", path: "/public", want: Passed},
		"dots that lead out of the auth routes":          {path: "/api/auth/../admin", want: Guarded},
		"the same with scrub off":                        {scrub: off, path: "/api/auth/../admin", want: Guarded},
		"dots that stay within the auth routes":          {path: "/api/auth/x/../session", want: Stripped},
		"dots that lead to the auth routes":              {path: "/x/../api/auth/session", want: Guarded},
		"the auth routes in other case":                  {path: "/API/Auth/session", want: Stripped},
		"the sign-in page in other case":                 {path: "/auth/SignIn", want: Stripped},
		"two slashes before the auth routes":             {none: true, path: "//api/auth/session", want: Stripped},
		"a host before the auth routes":                  {none: true, path: "//x/api/auth/session", want: Stripped},
		"dots and a public page":                         {scrub: scrubAuth, path: "/x/../y", want: Passed},
		"a hidden file":                                  {scrub: scrubAuth, path: "/.well-known/x", want: Passed},
		"a semicolon":                                    {scrub: scrubAuth, path: "/x;y", want: Passed},
		"an encoded slash":                               {scrub: scrubAuth, path: "/files/a%2Fb", want: Passed},
		"dots that lead from elsewhere to a guarded one": {path: "/x/../admin", want: Guarded},
	} {
		t.Run(name, func(t *testing.T) {
			rules := New(Routes{Scrub: c.scrub}, guarded, nextAuth(t), url.URL{Path: "/auth/signin"}, "")
			if c.all {
				rules.guarded = nil
			}
			if c.none {
				rules.guarded = caddyhttp.MatcherSets{{caddyhttp.MatchPath{"/nowhere"}}}
			}
			if c.slash {
				rules.signIn.Path += "/"
			}
			r := httptest.NewRequest(http.MethodGet, "http://app.test/", nil)
			if err := readPath(r.URL, c.path); err != nil {
				t.Fatal(err)
			}
			if c.asked != "" {
				original := http.Request{URL: httptest.NewRequest(http.MethodGet, "http://app.test"+c.asked, nil).URL}
				r = r.WithContext(context.WithValue(r.Context(), caddyhttp.OriginalRequestCtxKey, original))
			}
			r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
			got, err := rules.Of(r)
			if err != nil || got != c.want {
				t.Errorf("scope %d, error %v; want %d", got, err, c.want)
			}
		})
	}
}

// TestCalls has requests that run the code of any page, whatever their path.
func TestCalls(t *testing.T) {
	guard := caddyhttp.MatchPath{"/admin*"}
	if err := guard.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	action := http.Header{"Next-Action": {"0042"}}
	from := func(page string) http.Header { return http.Header{"Referer": {page}} }
	for name, c := range map[string]struct {
		method, target string
		header         http.Header
		want           Scope
		auth, off      Scope // with scrub auth and off
	}{
		"a Server Action at the front page":      {"POST", "/", action, Call, Call, Call},
		"at a public page":                       {"POST", "/pub", action, Call, Call, Call},
		"at a page that does not exist":          {"POST", "/nosuch", action, Call, Call, Call},
		"at a file":                              {"POST", "/favicon.ico", action, Call, Call, Call},
		"at a file of Next.js":                   {"POST", "/_next/static/x.js", action, Call, Call, Call},
		"at data of no page":                     {"POST", "/_next/data/x/y.json", action, Call, Call, Call},
		"at a path in disguise":                  {"POST", "/x/../pub", action, Call, Call, Call},
		"at the guarded page":                    {"POST", "/admin", action, Guarded, Guarded, Guarded},
		"at the sign-in page":                    {"POST", "/login", action, Stripped, Stripped, Stripped},
		"at an auth route":                       {"POST", "/api/auth/session", action, Stripped, Stripped, Stripped},
		"said to be from the sign-in page":       {"POST", "/pub", http.Header{"Next-Action": {"0042"}, "Referer": {"http://app.test/login"}}, Call, Call, Call},
		"an Astro form":                          {"POST", "/pub?_action=save", nil, Call, Call, Call},
		"an Astro form of the sign-in page":      {"POST", "/login?_action=enter", nil, Stripped, Stripped, Stripped},
		"an Astro action":                        {"POST", "/_actions/save", from("http://app.test/pub"), Call, Call, Call},
		"an Astro action of the sign-in page":    {"POST", "/_actions/enter", from("http://app.test/login?x=1"), Stripped, Stripped, Stripped},
		"of another site's sign-in page":         {"POST", "/_actions/enter", from("http://evil.test/login"), Call, Call, Call},
		"a server$ of Qwik":                      {"POST", "/pub/?qfunc=x", nil, Call, Call, Call},
		"a server function of TanStack":          {"GET", "/_serverFn/ab", nil, Call, Call, Call},
		"a server function of SolidStart":        {"POST", "/_server", nil, Call, Call, Call},
		"a remote function of SvelteKit":         {"GET", "/_app/remote/h/list", nil, Call, Call, Call},
		"an island of Astro":                     {"GET", "/_server-islands/Cart", nil, Call, Call, Call},
		"data of the guarded page, Next.js":      {"GET", "/_next/data/build/admin.json", nil, Guarded, Guarded, Guarded},
		"the same below index":                   {"GET", "/_next/data/build/index/admin.json", nil, Guarded, Guarded, Guarded},
		"the same in disguise":                   {"GET", "/x/../_next/data/build/%61dmin.json", nil, Guarded, Guarded, Guarded},
		"data of the guarded page, React Router": {"GET", "/admin.data", nil, Guarded, Guarded, Guarded},
		"data of a public page":                  {"GET", "/pub/__data.json", nil, Stripped, Passed, Passed},
		"data of the sign-in page, SvelteKit":    {"GET", "/login/__data.json", nil, Stripped, Stripped, Passed},
		"data of the sign-in page, React Router": {"GET", "/login.data", nil, Stripped, Stripped, Passed},
		"a page that only begins like it":        {"GET", "/login.database", nil, Stripped, Passed, Passed},
		"a form of a public page":                {"POST", "/pub", nil, Stripped, Passed, Passed},
		"an API":                                 {"GET", "/api/trpc/a,b", nil, Stripped, Passed, Passed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for scrub, want := range map[string]Scope{"": c.want, scrubAuth: c.auth, off: c.off} {
				rules := New(Routes{Scrub: scrub}, caddyhttp.MatcherSets{{guard}}, nextAuth(t), url.URL{Path: "/login"}, "")
				r := httptest.NewRequest(c.method, "http://app.test"+c.target, nil)
				r.Header = c.header
				r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
				if got, err := rules.Of(r); err != nil || got != want {
					t.Errorf("scrub %q: scope %s, error %v; want %s", scrub, got, err, want)
				}
			}
		})
	}
}

// TestExactMatchersGuardTheDataOfTheirPage has matchers without a wildcard.
func TestExactMatchersGuardTheDataOfTheirPage(t *testing.T) {
	guard := caddyhttp.MatchPath{"/admin", "/"}
	if err := guard.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	rules := New(Routes{}, caddyhttp.MatcherSets{{guard}}, nextAuth(t), url.URL{Path: "/login"}, "")
	for _, path := range []string{
		"/_next/data/b/admin.json", "/admin/__data.json", "/admin.data", "/admin/.data", "/admin/_.data", "/admin/q-data.json", "/admin/_payload.json",
		"/_next/data/b/index.json", "/__data.json", "/_root.data", "/_.data", "/q-data.json", "/_payload.json",
	} {
		r := httptest.NewRequest(http.MethodGet, "http://app.test"+path, nil)
		r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
		if got, err := rules.Of(r); err != nil || got != Guarded {
			t.Errorf("%s: scope %s, error %v", path, got, err)
		}
	}
}

func TestTheSignInPageOfAnotherSite(t *testing.T) {
	for name, c := range map[string]struct {
		signIn, origin, asked string
		want                  Scope
	}{
		"this site's front page":          {"https://id.example.com", "", "https://app.test/", Guarded},
		"with a slash":                    {"https://id.example.com/", "https://app.test", "https://app.test/", Guarded},
		"this site's page of that path":   {"https://id.example.com/login", "https://app.test", "https://app.test/login", Guarded},
		"the page itself":                 {"https://id.example.com/login", "https://app.test", "https://id.example.com/login", Stripped},
		"this site's own, by AUTH_URL":    {"https://app.test/login", "https://app.test", "https://app.internal/login", Stripped},
		"this site's own, by its address": {"https://app.test/login", "", "https://app.test/login", Stripped},
		"in other case":                   {"https://App.Test/login", "", "https://app.test/Login/", Stripped},
		"the auth routes of this site":    {"https://id.example.com/login", "", "https://app.test/api/auth/session", Stripped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signIn, err := url.Parse(c.signIn)
			if err != nil {
				t.Fatal(err)
			}
			rules := New(Routes{}, nil, nextAuth(t), *signIn, c.origin)
			if got, err := rules.Of(httptest.NewRequest(http.MethodGet, c.asked, nil)); err != nil || got != c.want {
				t.Errorf("scope %s, error %v; want %s", got, err, c.want)
			}
		})
	}
}

func TestClearPath(t *testing.T) {
	for path, want := range map[string]Scope{
		"":                        Clearing,
		"/clear":                  Stripped,
		"off":                     Stripped,
		"/api/auth/clear-session": Clearing,
	} {
		options := Routes{ClearPath: path}
		r := httptest.NewRequest(http.MethodPost, "http://app.test/api/auth/clear-session", nil)
		if got, err := New(options, nil, nextAuth(t), url.URL{Path: "/auth/signin"}, "").Of(r); err != nil || got != want {
			t.Errorf("%+v: scope %s, error %v; want %s", options, got, err, want)
		}
	}
}

func TestInvalidOptions(t *testing.T) {
	for says, options := range map[string]Routes{
		`scrub is "some"; it must be one of auth, all, off`:                         {Scrub: "some"},
		`clear_path is "clear"; it must be a path that begins with a slash, or off`: {ClearPath: "clear"},
	} {
		if err := options.Validate(); err == nil || err.Error() != says {
			t.Errorf("error %v, want %q", err, says)
		}
	}
	for _, options := range []Routes{{}, {ClearPath: "off", Scrub: "off"}, {ClearPath: "/clear", Scrub: "all"}, {Scrub: "auth"}} {
		if err := options.Validate(); err != nil {
			t.Errorf("%+v: error %v", options, err)
		}
	}
}
