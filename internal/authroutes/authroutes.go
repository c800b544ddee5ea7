// Package authroutes knows the routes on which an app signs people in and out:
// those of NextAuth and Auth.js below a base path, which depends on the framework.
package authroutes

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
)

// The base paths by default: of Next.js, SolidStart and Nuxt, and of Express,
// SvelteKit and Qwik.
const (
	nextBase = "/api/auth"
	coreBase = "/auth"
)

// actions are the routes of Auth.js below its base path.
var actions = []string{"session", "csrf", "providers", "signin", "signout", "callback", "error", "verify-request", "webauthn-options", "_log", "clear-session"}

// Routes are the auth routes of an app. They are safe for concurrent use.
type Routes struct {
	bases   []base
	fixed   bool // nothing is learned
	learned atomic.Pointer[string]
}

// base is a base path. All that is below it is an auth route, or only the actions.
type base struct {
	path  string
	whole bool
}

// Unclear returns the base path if it is that of AUTH_URL and may be that of the
// whole app; else it is empty.
func (r *Routes) Unclear() string {
	if r.fixed && !r.bases[0].whole {
		return r.bases[0].path
	}
	return ""
}

// New returns the routes below the given base paths. By default that is the path of
// AUTH_URL or NEXTAUTH_URL; if there is none, it is either of the usual ones, and
// Learn finds out which.
func New(paths []string, env environment.Environment) (*Routes, error) {
	r := &Routes{fixed: true}
	for _, path := range paths {
		path, err := env.Fill("auth_path", path)
		if err != nil {
			return nil, err
		}
		if trimmed := strings.TrimRight(path, "/"); trimmed != "" && trimmed[0] == '/' && !strings.HasPrefix(trimmed, "//") {
			r.bases = append(r.bases, base{trimmed, true})
			continue
		}
		return nil, fmt.Errorf("auth_path is %q; it must be the path below which the app's auth routes are, such as /api/auth", path)
	}
	if len(r.bases) > 0 {
		return r, nil
	}
	if path := env.AuthPath(); path != nextBase {
		// It may be that of the app, and not of its auth routes alone.
		r.bases = []base{{path, strings.HasSuffix(path, "/auth")}}
		return r, nil
	}
	r.bases, r.fixed = []base{{nextBase, true}, {coreBase, false}}, false
	return r, nil
}

// Base returns the base path that the app most likely uses.
func (r *Routes) Base() string {
	if learned := r.learned.Load(); learned != nil {
		return *learned
	}
	return r.bases[0].path
}

// Has reports whether a path is an auth route, ignoring case, as Caddy's matchers
// do.
func (r *Routes) Has(path string) bool {
	_, found := r.find(path)
	return found
}

// Action returns what a path is below the base path, such as callback/github; empty
// if it is no auth route.
func (r *Routes) Action(path string) string {
	action, _ := r.find(path)
	return action
}

func (r *Routes) find(path string) (action string, found bool) {
	for _, b := range r.bases {
		if action, found = b.find(path); found {
			return action, true
		}
	}
	if learned := r.learned.Load(); learned != nil {
		return base{*learned, false}.find(path)
	}
	return "", false
}

func (b base) find(path string) (action string, found bool) {
	n := len(b.path)
	switch {
	case len(path) < n || !strings.EqualFold(path[:n], b.path):
		return "", false
	case len(path) == n:
		return "", b.whole
	case path[n] != '/':
		return "", false
	}
	action = path[n+1:]
	first, _, _ := strings.Cut(action, "/")
	return action, b.whole || slices.ContainsFunc(actions, func(known string) bool { return strings.EqualFold(known, first) })
}

// Learn learns the base path from a response to a GET of a path: Auth.js sets its
// csrf-token and callback-url cookies on its own routes. Session cookies are no
// sign, because its middleware renews them everywhere; nor is the response to a
// POST, which may be that of a form on a page of the app's own.
func (r *Routes) Learn(method, path string, header http.Header) {
	if r.fixed || method != http.MethodGet || !slices.ContainsFunc(header["Set-Cookie"], isSign) {
		return
	}
	segments := strings.Split(path, "/")
	last := len(segments) - 1
	if last > 1 && (segments[last-1] == "callback" || segments[last-1] == "signin") {
		last--
	}
	if last < 1 || !slices.Contains(actions, segments[last]) {
		return
	}
	isOdd := func(segment string) bool { return segment == "" || segment == "." || segment == ".." }
	if slices.ContainsFunc(segments[1:last], isOdd) { // two slashes at its beginning name another host
		return
	}
	found := strings.Join(segments[:last], "/")
	if (&url.URL{Path: found}).EscapedPath() == found && found != "" && r.Base() != found {
		r.learned.Store(&found)
	}
}

// isSign reports whether a Set-Cookie field is one that Auth.js sets on its own
// routes only.
func isSign(line string) bool {
	name, _, _ := strings.Cut(line, "=")
	return strings.HasSuffix(name, "authjs.csrf-token") || strings.HasSuffix(name, "authjs.callback-url") ||
		strings.HasSuffix(name, "next-auth.csrf-token") || strings.HasSuffix(name, "next-auth.callback-url")
}

// Other returns the other usual base path, if the app answers that the first does
// not exist, and nothing is known of it. It is learned then. It is empty otherwise.
func (r *Routes) Other(path string) string {
	if r.fixed || r.learned.Load() != nil || path != nextBase+"/signin" {
		return ""
	}
	other := coreBase
	r.learned.Store(&other)
	return other
}
