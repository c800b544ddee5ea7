// Package scope decides, by the route of a request, whether a stale session is
// answered, stripped from the request, or passed through.
package scope

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Scope is what happens to a session on a route.
type Scope int

// The scopes.
const (
	// Passed routes pass every session through, unchecked.
	Passed Scope = iota
	// Guarded routes answer a stale session.
	Guarded
	// Stripped routes strip a stale session from the request, which reaches the
	// app as anonymous.
	Stripped
	// Clearing is the route on which callers clear their own session.
	Clearing
)

// Rules decide the scope of each request to a site.
type Rules struct {
	guarded              caddyhttp.MatcherSets // empty for all routes
	authPath, signInPath string
	clearPath            string // empty for none
	scrub                string
}

// New returns the rules that options describe. guarded selects the guarded
// routes; empty, it selects all. authPath is the base path of the app's auth
// routes, such as /api/auth, and signInPath the path of its sign-in page.
func New(options Routes, guarded caddyhttp.MatcherSets, authPath, signInPath string) Rules {
	rules := Rules{
		guarded: guarded, authPath: authPath, signInPath: signInPath,
		clearPath: cmp.Or(options.ClearPath, authPath+"/clear-session"), scrub: cmp.Or(options.Scrub, scrubAuth),
	}
	if options.ClearPath == off {
		rules.clearPath = ""
	}
	return rules
}

// Of returns the scope of a request, or the error of a matcher.
//
// The sign-in page and the auth routes are never guarded, whatever the matchers
// say: a redirect there would loop, and an answer would keep people from signing
// in. The path that the client requested counts, and the one after rewrites.
//
// A path that apps may parse differently from Caddy's matchers counts in all of
// its readings, so that no way to write it gets past the guard.
func (r Rules) Of(req *http.Request) (Scope, error) {
	asked := req.URL
	if original, ok := req.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		asked = original.URL
	}
	if r.clearPath != "" && (req.URL.Path == r.clearPath || asked.Path == r.clearPath) {
		return Clearing, nil
	}
	if odd(req.URL) || asked != req.URL && odd(asked) {
		return r.ofOdd(req, asked)
	}
	if r.SignsIn(req.URL.Path) || r.SignsIn(asked.Path) {
		return r.signingIn(), nil
	}
	guarded, err := r.guarded.AnyMatchWithError(req)
	switch {
	case err != nil:
		return Passed, err
	case guarded:
		return Guarded, nil
	case r.scrub == scrubAll:
		return Stripped, nil
	}
	return Passed, nil
}

// signingIn returns the scope of the sign-in page and the auth routes.
func (r Rules) signingIn() Scope {
	if r.scrub == off {
		return Passed
	}
	return Stripped
}

// SignsIn reports whether a path is the sign-in page or an auth route, ignoring
// case, as Caddy's matchers do.
func (r Rules) SignsIn(path string) bool {
	if strings.EqualFold(strings.TrimSuffix(path, "/"), strings.TrimSuffix(r.signInPath, "/")) {
		return true
	}
	n := len(r.authPath)
	return len(path) >= n && strings.EqualFold(path[:n], r.authPath) && (len(path) == n || path[n] == '/')
}

// SigningIn reports whether a request signs somebody in, so that a session in its
// response is a new one.
func (r Rules) SigningIn(req *http.Request) bool {
	return !odd(req.URL) && strings.HasPrefix(req.URL.Path, r.authPath+"/callback/")
}

// String returns the name of the scope for log lines.
func (s Scope) String() string {
	return [...]string{"passed", "guarded", "stripped", "clearing"}[s]
}
