package scope

import (
	"fmt"
	"strings"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

// Routes are the options of what is done on which route.
type Routes struct {
	// The paths below which the app's auth routes are, such as /api/auth. Default:
	// the path of AUTH_URL or NEXTAUTH_URL, if it has one; else /api/auth or /auth,
	// whichever the app is seen to use.
	AuthPaths []string `json:"auth_paths,omitempty"`

	// The path on which a POST clears the caller's session cookies, or `off`.
	// Default: `clear-session` below the auth routes, usually
	// /api/auth/clear-session.
	ClearPath string `json:"clear_path,omitempty"`

	// Where else a stale session is stripped from the request: `all` (every route
	// that is not guarded), `auth` (the sign-in page and the auth routes) or `off`
	// (nowhere). Default: all.
	Scrub string `json:"scrub,omitempty"`
}

// The values of Routes.Scrub; off is one of Routes.ClearPath too.
const (
	scrubAuth = "auth"
	scrubAll  = "all"
	off       = "off"
)

// Options returns the options by their names in a Caddyfile.
func (r *Routes) Options() directive.Options {
	return directive.Options{
		"auth_path":  directive.Texts(&r.AuthPaths),
		"clear_path": directive.Text(&r.ClearPath),
		"scrub":      directive.Text(&r.Scrub),
	}
}

// Validate returns an error that names an invalid option.
func (r *Routes) Validate() error {
	if r.ClearPath != "" && r.ClearPath != off && !strings.HasPrefix(r.ClearPath, "/") {
		return fmt.Errorf("clear_path is %q; it must be a path that begins with a slash, or off", r.ClearPath)
	}
	return directive.OneOf("scrub", r.Scrub, scrubAuth, scrubAll, off)
}
