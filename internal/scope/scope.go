// Package scope decides, by the route of a request, whether a stale session is
// answered, stripped from the request, or passed through.
package scope

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/authroutes"
	"github.com/seed-4adef13c/caddy-stale-session/internal/door"
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
	// Call is a request that may run the code of any page, whatever its path: a
	// stale session is answered, as on guarded routes.
	Call
	// Clearing is the route on which callers clear their own session.
	Clearing
)

// Answers reports whether a stale session is answered, and so does not reach the app.
func (s Scope) Answers() bool { return s == Guarded || s == Call }

// Rules decide the scope of each request to a site.
type Rules struct {
	guarded   caddyhttp.MatcherSets // empty for all routes
	auth      *authroutes.Routes
	signIn    url.URL // without a host if it is surely the site's own; zero for none
	clearPath string  // off for none, empty for the default
	scrub     string
}

// New returns the rules that options describe. guarded selects the guarded
// routes; empty, it selects all. auth are the auth routes, and signIn is the
// sign-in page, if it is not one of them. It may be another site's; origin is that
// of this one, empty if unknown.
func New(options Routes, guarded caddyhttp.MatcherSets, auth *authroutes.Routes, signIn url.URL, origin string) Rules {
	if signIn.Host != "" && strings.EqualFold(signIn.Scheme+"://"+signIn.Host, origin) {
		signIn.Host, signIn.Path = "", cmp.Or(signIn.Path, "/")
	}
	return Rules{guarded: guarded, auth: auth, signIn: signIn, clearPath: options.ClearPath, scrub: cmp.Or(options.Scrub, scrubAll)}
}

// clears reports whether a path is the clear path.
func (r Rules) clears(path string) bool {
	switch r.clearPath {
	case off:
		return false
	case "":
		return r.auth.Action(path) == "clear-session"
	}
	return path == r.clearPath
}

// Of returns the scope of a request, or the error of a matcher.
//
// The sign-in page and the auth routes are never guarded, whatever the matchers
// say: a redirect there would loop, and an answer would keep people from signing
// in. The path that the client requested counts, and the one after rewrites.
//
// A path that apps may parse differently from Caddy's matchers, and one by which a
// framework runs the code of another, counts in all of its readings, so that no
// way to write it gets past the guard.
func (r Rules) Of(req *http.Request) (Scope, error) {
	asked := req.URL
	if original, ok := req.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		asked = original.URL
	}
	if r.clears(req.URL.Path) || r.clears(asked.Path) {
		return Clearing, nil
	}
	if unusual(req.URL) || asked != req.URL && unusual(asked) {
		return r.ofUnusual(req, asked)
	}
	if r.signsIn(req.Host, req.URL.Path) || r.signsIn(req.Host, asked.Path) {
		return r.unguarded(req, true), nil
	}
	guarded, err := r.guarded.AnyMatchWithError(req)
	switch {
	case err != nil:
		return Passed, err
	case guarded:
		return Guarded, nil
	}
	return r.unguarded(req, false), nil
}

// unguarded returns the scope of a request to a route that is not guarded. signsIn
// tells whether it is the sign-in page or an auth route, whose own forms call as
// well. No session reaches those through a call.
func (r Rules) unguarded(req *http.Request, signsIn bool) Scope {
	opened := door.Of(req)
	switch {
	case !signsIn && opened.Shared() && (!opened.Apart() || !r.isFromSignIn(req)):
		return Call
	case opened.Shared(), r.scrub == scrubAll, r.scrub == scrubAuth && signsIn:
		return Stripped
	}
	return Passed
}

// isFromSignIn reports whether the sign-in page makes a request.
func (r Rules) isFromSignIn(req *http.Request) bool {
	page := door.Referer(req)
	return page != nil && r.signsIn(req.Host, page.Path)
}

// SignsIn reports whether a request is for the sign-in page or an auth route, or
// for the data of such a page.
func (r Rules) SignsIn(req *http.Request) bool { return r.pageSignsIn(req.Host, req.URL.Path) }

// pageSignsIn is signsIn for a path that may be a twin of another.
func (r Rules) pageSignsIn(host, path string) bool {
	return r.signsIn(host, path) || slices.ContainsFunc(door.Pages(path), func(page string) bool { return r.signsIn(host, page) })
}

// signsIn reports whether a path is the sign-in page or an auth route, ignoring
// case, as Caddy's matchers do.
func (r Rules) signsIn(host, path string) bool {
	switch {
	case r.auth.Has(path):
		return true
	case r.signIn.Host != "" && !strings.EqualFold(r.signIn.Host, host), r.signIn.Host == "" && r.signIn.Path == "":
		return false
	}
	return strings.EqualFold(strings.TrimSuffix(path, "/"), strings.TrimSuffix(r.signIn.Path, "/"))
}

// SigningIn reports whether a request signs somebody in, so that a session in its
// response is a new one.
func (r Rules) SigningIn(req *http.Request) bool {
	return !odd(req.URL) && strings.HasPrefix(r.auth.Action(req.URL.Path), "callback/")
}

// String returns the name of the scope for log lines.
func (s Scope) String() string {
	return [...]string{"passed", "guarded", "stripped", "call", "clearing"}[s]
}
