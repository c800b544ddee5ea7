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
)

// readPath sets the path of a URL, as a request line has it.
func readPath(u *url.URL, text string) error {
	read, err := url.ParseRequestURI(text)
	if err == nil {
		u.Path, u.RawPath, u.Opaque = read.Path, read.RawPath, read.Opaque
	}
	return err
}

// TestNoWayToWriteAPathLeadsPastTheGuard has paths that some app parses as one
// below /admin or /api/admin.
func TestNoWayToWriteAPathLeadsPastTheGuard(t *testing.T) {
	guard := caddyhttp.MatchPath{"/admin*", "/api/admin*"}
	if err := guard.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	for _, scrub := range []string{"", off, scrubAll} {
		rules := New(Routes{Scrub: scrub}, caddyhttp.MatcherSets{{guard}}, "/api/auth", "/auth/signin")
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
	for _, text := range []string{"/a/../b", "/a%2f..%2fb", "//h/a", "/%2561", `/a\b;c/d`, "/.", "/%", "/;", "//"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var u url.URL
		if readPath(&u, text) != nil || u.Opaque != "" || u.Path == "" || u.Path[0] != '/' {
			return
		}
		all := readings(&u)
		if all[0] != u.Path || len(all) > 37 {
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
		"a public page":                                  {path: "/", want: Passed},
		"a public page with scrub all":                   {scrub: scrubAll, path: "/", want: Stripped},
		"a guarded page with scrub all":                  {scrub: scrubAll, path: "/admin", want: Guarded},
		"the session endpoint, though matched":           {path: "/api/auth/session", want: Stripped},
		"the auth base path":                             {path: "/api/auth", want: Stripped},
		"a path that only begins like the auth routes":   {path: "/api/authors", want: Guarded},
		"the sign-in page":                               {path: "/auth/signin", want: Stripped},
		"the sign-in page with a slash":                  {path: "/auth/signin/", want: Stripped},
		"the sign-in page when everything is guarded":    {all: true, path: "/auth/signin", want: Stripped},
		"the sign-in page, configured with a slash":      {slash: true, path: "/auth/signin", want: Stripped},
		"a page below the sign-in page":                  {path: "/auth/signin/help", want: Passed},
		"any page when everything is guarded":            {all: true, path: "/", want: Guarded},
		"the session endpoint with scrub off":            {scrub: off, path: "/api/auth/session", want: Passed},
		"the sign-in page, all guarded, scrub off":       {scrub: off, all: true, path: "/auth/signin", want: Passed},
		"the clear path":                                 {path: "/api/auth/clear-session", want: Clearing},
		"below the clear path":                           {path: "/api/auth/clear-session/x", want: Stripped},
		"a rewrite away from the sign-in page":           {asked: "/auth/signin", path: "/admin/login", want: Stripped},
		"a rewrite to a guarded page":                    {asked: "/dashboard", path: "/admin", want: Guarded},
		"a rewrite of a guarded page to a public one":    {asked: "/admin", path: "/public", want: Passed},
		"dots that lead out of the auth routes":          {path: "/api/auth/../admin", want: Guarded},
		"the same with scrub off":                        {scrub: off, path: "/api/auth/../admin", want: Guarded},
		"dots that stay within the auth routes":          {path: "/api/auth/x/../session", want: Stripped},
		"dots that lead to the auth routes":              {path: "/x/../api/auth/session", want: Guarded},
		"the auth routes in other case":                  {path: "/API/Auth/session", want: Stripped},
		"the sign-in page in other case":                 {path: "/auth/SignIn", want: Stripped},
		"two slashes before the auth routes":             {none: true, path: "//api/auth/session", want: Stripped},
		"a host before the auth routes":                  {none: true, path: "//x/api/auth/session", want: Stripped},
		"dots and a public page":                         {path: "/x/../y", want: Passed},
		"a hidden file":                                  {path: "/.well-known/x", want: Passed},
		"a semicolon":                                    {path: "/x;y", want: Passed},
		"an encoded slash":                               {path: "/files/a%2Fb", want: Passed},
		"dots that lead from elsewhere to a guarded one": {path: "/x/../admin", want: Guarded},
	} {
		t.Run(name, func(t *testing.T) {
			rules := New(Routes{Scrub: c.scrub}, guarded, "/api/auth", "/auth/signin")
			if c.all {
				rules.guarded = nil
			}
			if c.none {
				rules.guarded = caddyhttp.MatcherSets{{caddyhttp.MatchPath{"/nowhere"}}}
			}
			if c.slash {
				rules.signInPath += "/"
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

func TestClearPath(t *testing.T) {
	for options, want := range map[Routes]Scope{
		{}:                                     Clearing,
		{ClearPath: "/clear"}:                  Stripped,
		{ClearPath: "off"}:                     Stripped,
		{ClearPath: "/api/auth/clear-session"}: Clearing,
	} {
		r := httptest.NewRequest(http.MethodPost, "http://app.test/api/auth/clear-session", nil)
		if got, err := New(options, nil, "/api/auth", "/auth/signin").Of(r); err != nil || got != want {
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
