// Package scope tells what is done on the route of a request: whether a stale
// session is answered there, only taken off, or let be.
package scope

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Scope is what is done on a route.
type Scope int

// The scopes.
const (
	// Passed routes are not looked at.
	Passed Scope = iota
	// Guarded routes answer a stale session.
	Guarded
	// Scrubbed routes take a stale session off the request, which goes on as
	// anonymous.
	Scrubbed
	// Clearing is the route that clears the caller's session by hand.
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

// Of tells the scope of a request. The sign-in page and the auth routes are
// never guarded, whatever the matchers say: a redirect there would loop, and
// an answer would keep people from signing in. They are known by the path that
// the client asked for as well as by the one that a rewrite made of it.
//
// A path that apps may read otherwise than the matchers do counts in all of its
// readings: nobody gets past the guard by writing it oddly.
//
// An error is one of a matcher.
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
		return Scrubbed, nil
	}
	return Passed, nil
}

// signingIn is the scope of the sign-in page and the auth routes.
func (r Rules) signingIn() Scope {
	if r.scrub == off {
		return Passed
	}
	return Scrubbed
}

// SignsIn tells whether a path is the sign-in page or one of the auth routes,
// in any case, as Caddy matches paths and some apps route them.
func (r Rules) SignsIn(path string) bool {
	if strings.EqualFold(strings.TrimSuffix(path, "/"), strings.TrimSuffix(r.signInPath, "/")) {
		return true
	}
	n := len(r.authPath)
	return len(path) >= n && strings.EqualFold(path[:n], r.authPath) && (len(path) == n || path[n] == '/')
}

// SigningIn tells whether a request is one by which somebody signs in, so that
// a session in its response is a new one.
func (r Rules) SigningIn(req *http.Request) bool {
	return !odd(req.URL) && strings.HasPrefix(req.URL.Path, r.authPath+"/callback/")
}

// String names the scope in log lines.
func (s Scope) String() string {
	return [...]string{"passed", "guarded", "scrubbed", "clearing"}[s]
}
