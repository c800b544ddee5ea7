package scope

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

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
		asked string // before a rewrite; empty for none
		path  string
		want  Scope
	}{
		"a guarded page":                                 {path: "/admin/users", want: Guarded},
		"a guarded path in other case":                   {path: "/ADMIN", want: Guarded},
		"a public page":                                  {path: "/", want: Passed},
		"a public page with scrub all":                   {scrub: ScrubAll, path: "/", want: Scrubbed},
		"a guarded page with scrub all":                  {scrub: ScrubAll, path: "/admin", want: Guarded},
		"the session endpoint, though matched":           {path: "/api/auth/session", want: Scrubbed},
		"the auth base path":                             {path: "/api/auth", want: Scrubbed},
		"a path that only begins like the auth routes":   {path: "/api/authors", want: Guarded},
		"the sign-in page":                               {path: "/auth/signin", want: Scrubbed},
		"the sign-in page with a slash":                  {path: "/auth/signin/", want: Scrubbed},
		"the sign-in page when everything is guarded":    {all: true, path: "/auth/signin", want: Scrubbed},
		"the sign-in page, configured with a slash":      {slash: true, path: "/auth/signin", want: Scrubbed},
		"a page below the sign-in page":                  {path: "/auth/signin/help", want: Passed},
		"any page when everything is guarded":            {all: true, path: "/", want: Guarded},
		"the session endpoint with scrub off":            {scrub: ScrubOff, path: "/api/auth/session", want: Passed},
		"the sign-in page, all guarded, scrub off":       {scrub: ScrubOff, all: true, path: "/auth/signin", want: Passed},
		"the clear path":                                 {path: "/api/auth/clear-session", want: Clearing},
		"below the clear path":                           {path: "/api/auth/clear-session/x", want: Scrubbed},
		"a rewrite away from the sign-in page":           {asked: "/auth/signin", path: "/admin/login", want: Scrubbed},
		"a rewrite to a guarded page":                    {asked: "/dashboard", path: "/admin", want: Guarded},
		"a rewrite of a guarded page to a public one":    {asked: "/admin", path: "/public", want: Passed},
		"dots that lead out of the auth routes":          {path: "/api/auth/../admin", want: Scrubbed},
		"dots that lead from elsewhere to a guarded one": {path: "/x/../admin", want: Guarded},
	} {
		t.Run(name, func(t *testing.T) {
			rules := Rules{
				Guarded: guarded, AuthPath: "/api/auth", SignInPath: "/auth/signin",
				ClearPath: "/api/auth/clear-session", Scrub: c.scrub,
			}
			if c.all {
				rules.Guarded = nil
			}
			if c.slash {
				rules.SignInPath += "/"
			}
			r := httptest.NewRequest(http.MethodGet, "http://app.test/", nil)
			r.URL.Path = c.path
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
