package answer

import (
	"cmp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
)

// Answers are the options of how stale sessions are answered.
type Answers struct {
	// The sign-in page that people are redirected to: a path, or a URL. It gets
	// the parameters `callbackUrl` and `error=SessionRequired`, unless it has
	// them already. Default: `signin` below the auth routes, usually
	// /api/auth/signin, which forwards to a page of the app's own.
	SignIn string `json:"sign_in,omitempty"`

	// How a stale session is answered on guarded routes: `auto` (a redirect for
	// navigations, for requests of a framework the form that its client follows,
	// else a 401 in JSON), `redirect`, `json` or `error` (an error
	// with status 401 for `handle_errors`; the cookies are cleared too).
	// Default: auto.
	Respond string `json:"respond,omitempty"`

	// The Domain attributes of the app's session cookies, if it sets any, the
	// former ones included: they are then cleared for those domains too.
	// Default: none.
	CookieDomains []string `json:"cookie_domains,omitempty"`
}

// The values of Answers.Respond.
const (
	// Auto redirects navigations, answers the clients of frameworks in the form
	// that they follow, and everything else with 401 in JSON.
	Auto = "auto"
	// Redirect always redirects.
	Redirect = "redirect"
	// JSON always answers 401 in JSON.
	JSON = "json"
	// ErrorRoute returns an error with status 401 for Caddy's error routes.
	ErrorRoute = "error"
)

// Options returns the options by their names in a Caddyfile.
func (a *Answers) Options() directive.Options {
	return directive.Options{
		"sign_in":       directive.Text(&a.SignIn),
		"respond":       directive.Text(&a.Respond),
		"cookie_domain": directive.Texts(&a.CookieDomains),
	}
}

// Validate returns an error if Respond is not one of its values. New checks the
// other options, which can have placeholders.
func (a *Answers) Validate() error {
	return directive.OneOf("respond", a.Respond, Auto, Redirect, JSON, ErrorRoute)
}

// signInAddress returns the path or URL of the sign-in page.
func (a *Answers) signInAddress(env environment.Environment) (string, error) {
	return env.Fill("sign_in", cmp.Or(a.SignIn, env.AuthPath()+"/signin"))
}

// SignInURL returns the URL of the sign-in page. It is empty if SignIn is a path
// and neither AUTH_URL nor NEXTAUTH_URL is set.
func SignInURL(options Answers, env environment.Environment) (string, error) {
	address, err := options.signInAddress(env)
	if err != nil {
		return "", err
	}
	u, err := parseSignIn(address)
	switch {
	case err != nil:
		return "", err
	case u.IsAbs():
		return address, nil
	}
	if origin := env.Origin(); origin != "" {
		return origin + address, nil
	}
	return "", nil
}
