// Package scope tells what is done on the route of a request: whether a stale
// session is answered there, only taken off, or let be.
package scope

import (
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

// What Rules.Scrub can be.
const (
	// ScrubAuth scrubs the sign-in page and the auth routes. It is the default.
	ScrubAuth = "auth"
	// ScrubAll scrubs every route that is not guarded.
	ScrubAll = "all"
	// ScrubOff scrubs nothing.
	ScrubOff = "off"
)

// Rules divide the routes of a site.
type Rules struct {
	// Guarded selects the guarded routes; empty selects all.
	Guarded caddyhttp.MatcherSets
	// AuthPath is the base path of the app's auth routes, such as /api/auth.
	AuthPath string
	// SignInPath is the path of the sign-in page.
	SignInPath string
	// ClearPath is the path that clears the caller's session; empty for none.
	ClearPath string
	// Scrub is ScrubAuth, ScrubAll or ScrubOff.
	Scrub string
}

// Of tells the scope of a request. The sign-in page and the auth routes are
// never guarded, whatever the matchers say: a redirect there would loop, and
// an answer would keep people from signing in. They are known by the path that
// the client asked for as well as by the one that a rewrite made of it.
//
// An error is one of a matcher.
func (r Rules) Of(req *http.Request) (Scope, error) {
	asked := req.URL.Path
	if original, ok := req.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		asked = original.URL.Path
	}
	if r.ClearPath != "" && (req.URL.Path == r.ClearPath || asked == r.ClearPath) {
		return Clearing, nil
	}
	if r.SignsIn(req.URL.Path) || r.SignsIn(asked) {
		if r.Scrub == ScrubOff {
			return Passed, nil
		}
		return Scrubbed, nil
	}
	guarded, err := r.Guarded.AnyMatchWithError(req)
	switch {
	case err != nil:
		return Passed, err
	case guarded:
		return Guarded, nil
	case r.Scrub == ScrubAll:
		return Scrubbed, nil
	}
	return Passed, nil
}

// SignsIn tells whether a path is the sign-in page or one of the auth routes.
func (r Rules) SignsIn(path string) bool {
	if strings.TrimSuffix(path, "/") == strings.TrimSuffix(r.SignInPath, "/") {
		return true
	}
	rest, ok := strings.CutPrefix(path, r.AuthPath)
	return ok && (rest == "" || rest[0] == '/')
}

// SigningIn tells whether a request is one by which somebody signs in, so that
// a session in its response is a new one.
func (r Rules) SigningIn(req *http.Request) bool {
	return strings.HasPrefix(req.URL.Path, r.AuthPath+"/callback/")
}

// String names the scope in log lines.
func (s Scope) String() string {
	return [...]string{"passed", "guarded", "scrubbed", "clearing"}[s]
}
