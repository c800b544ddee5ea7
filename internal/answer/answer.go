// Package answer answers requests whose session is stale: with a redirect, JSON or
// an error, in the form that the client follows. It clears cookies, and intercepts responses just
// before their header is sent.
package answer

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/authroutes"
	"github.com/seed-4adef13c/caddy-stale-session/internal/door"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
)

// Responder answers requests whose session is stale. It is safe for concurrent
// use.
type Responder struct {
	signIn        url.URL // zero for the default
	auth          *authroutes.Routes
	respond       string
	cookieNames   []string
	cookieDomains []string                // in lower case, without a dot at the beginning
	origin        string                  // of this site; empty if unknown
	places        atomic.Pointer[[]place] // where the app keeps its cookies, as far as seen
	kept          kept                    // where it keeps single sessions
	allowed       allowed                 // the origins that it allows
}

// message is for people.
const message = "Your session is no longer valid. Please sign in again."

// New returns the responder that options describe, or an error that names an
// invalid option. By default the sign-in page is one of the auth routes.
// ClearSession clears the cookies of the given names.
func New(options Answers, env environment.Environment, auth *authroutes.Routes, cookieNames []string) (*Responder, error) {
	domains, err := env.FillAll("cookie_domain", options.CookieDomains)
	if err != nil {
		return nil, err
	}
	for i, domain := range domains {
		if (&http.Cookie{Name: "a", Domain: domain}).Valid() != nil {
			return nil, fmt.Errorf("cookie_domain is %q; it must be a domain, such as example.com", domain)
		}
		domains[i] = strings.ToLower(strings.TrimPrefix(domain, "."))
	}
	signIn := new(url.URL)
	if options.SignIn != "" {
		address, err := options.signInAddress(env)
		if err != nil {
			return nil, err
		}
		if signIn, err = parseSignIn(address); err != nil {
			return nil, err
		}
	}
	return &Responder{
		signIn: *signIn, auth: auth, respond: cmp.Or(options.Respond, Auto),
		cookieNames: cookieNames, cookieDomains: domains, origin: env.Origin(),
	}, nil
}

// SignIn returns the address of the sign-in page, which may be another site's. It is
// zero if it is one of the auth routes.
func (a *Responder) SignIn() url.URL { return a.signIn }

// parseSignIn parses the address of the sign-in page. It accepts none that a
// browser could take for another site's.
func parseSignIn(address string) (*url.URL, error) {
	if strings.Contains(address, "@") && (!strings.HasPrefix(address, "/") || strings.HasPrefix(address, "//")) { // not quoted: there may be a password before it
		return nil, errors.New("sign_in has an @: give the URL without a user and a password, and write an @ of its path or parameters as %40")
	}
	u, err := url.Parse(address)
	local := strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "//")
	switch {
	case err != nil || strings.ContainsAny(address, "\\ ;"):
	case local && u.Host == "" && u.Scheme == "":
		return u, nil
	case !local && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "":
		return u, nil
	}
	return nil, fmt.Errorf("sign_in is %q; it must be a path that begins with one slash, or an http(s) URL", address)
}

// Stale answers a request whose session is stale, and clears its cookies. A browser
// that comes back with them is not redirected again.
func (a *Responder) Stale(w http.ResponseWriter, r *http.Request, ended Ended) error {
	a.Clear(w.Header(), r, ended, nil)
	// The answer depends on the session, also if no cookie is cleared.
	keepOut(w.Header())
	kind := a.Kind(r)
	if kind != Redirect {
		a.allow(w.Header(), r)
	}
	signIn := a.location(a.callback(r, kind == Redirect))
	switch {
	case kind == ErrorRoute:
		return caddyhttp.Error(http.StatusUnauthorized, errors.New("stale session"))
	case kind == Redirect && ended.Marker.Returns():
		return form{}.write(w, r, signIn)
	case kind == Redirect:
		w.Header().Set("Location", signIn)
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	f := forms[door.Of(r)]
	if a.respond == JSON && f.status != 0 { // always a 401
		f = form{}
	}
	return f.write(w, r, signIn)
}

// callback returns the address to return to after signing in: a path, with the
// address of this site where the sign-in page is another's.
func (a *Responder) callback(r *http.Request, navigates bool) string {
	back := wayBack(r, navigates)
	if back == "" || a.signIn.Host == "" || strings.EqualFold(a.signIn.Host, r.Host) {
		return back
	}
	if a.origin != "" {
		return a.origin + back
	}
	if secure(r) {
		return "https://" + r.Host + back
	}
	return "http://" + r.Host + back
}

// Reroute answers in place of the app if that has no sign-in page below the base
// path that was assumed, but may have one below the other. It reports whether it did.
func (a *Responder) Reroute(w http.ResponseWriter, r *http.Request, status int) bool {
	if status != http.StatusNotFound || a.signIn != (url.URL{}) || r.Method != http.MethodGet {
		return false
	}
	other := a.auth.Other(Requested(r).Path)
	if other == "" {
		return false
	}
	deleteDescribing(w.Header())
	to := url.URL{Path: other + "/signin", RawQuery: Requested(r).RawQuery}
	w.Header().Set("Location", to.String())
	noStore(w.Header())
	w.WriteHeader(http.StatusSeeOther)
	return true
}

// Replace answers like Stale in place of a response of the app whose header is
// about to be sent. It removes the fields that describe the app's response.
func (a *Responder) Replace(w http.ResponseWriter, r *http.Request, ended Ended) error {
	deleteDescribing(w.Header())
	return a.Stale(w, r, ended)
}

// deleteDescribing deletes the fields that describe a response from its header.
func deleteDescribing(h http.Header) {
	for field := range h {
		if strings.HasPrefix(field, "Content-") && field != "Content-Security-Policy" || slices.Contains(describing, field) {
			delete(h, field)
		}
	}
}

// describing are the fields that belong to one body or status.
var describing = []string{
	"Accept-Ranges", "Age", "Cache-Control", "Etag", "Expires", "Last-Modified", "Location", "Pragma", "Retry-After", "Trailer", "Transfer-Encoding",
}

// Kind returns how a stale session is answered: Redirect, JSON or ErrorRoute.
func (a *Responder) Kind(r *http.Request) string {
	switch {
	case a.respond != Auto:
		return a.respond
	case navigates(r):
		return Redirect
	}
	return JSON
}

// page returns the address of the sign-in page.
func (a *Responder) page() url.URL {
	u := a.signIn
	if u == (url.URL{}) {
		u.Path = a.auth.Base() + "/signin"
	}
	return u
}

// Page returns the address of the sign-in page: a path on the site, or a URL.
func (a *Responder) Page() string {
	u := a.page()
	return u.String()
}

// location returns the address of the sign-in page, with the parameters
// callbackUrl and error unless it has them already.
func (a *Responder) location(callback string) string {
	u := a.page()
	var has url.Values
	if u.RawQuery != "" {
		has = u.Query()
	}
	add := func(name, value string) {
		if value == "" || has.Has(name) {
			return
		}
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += name + "=" + url.QueryEscape(value)
	}
	add("callbackUrl", callback)
	add("error", "SessionRequired")
	return u.String()
}

// ClearSession clears the caller's session cookies: the configured ones, and those
// of the given names, which the request has. It takes a POST, and none that
// another site made. It reports whether it cleared them.
func (a *Responder) ClearSession(w http.ResponseWriter, r *http.Request, names []string) (cleared bool, err error) {
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return false, writeJSON(w, r, http.StatusMethodNotAllowed, []byte(`{"error":"method_not_allowed","message":"Use POST."}`))
	case crossSite(r):
		return false, writeJSON(w, r, http.StatusForbidden, []byte(`{"error":"cross_site","message":"Cross-site requests are not allowed."}`))
	}
	a.Clear(w.Header(), r, Ended{Names: slices.Concat(a.cookieNames, names)}, nil)
	return true, writeJSON(w, r, http.StatusOK, []byte(`{"success":true,"message":"Session cleared successfully"}`))
}

// crossSite reports whether a page of another origin made the request; a sibling
// domain is another origin. Clients that send neither field, such as curl, are not
// browsers.
func crossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return true
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return false
	}
	origin, err := url.Parse(origins[0])
	return err != nil || len(origins) > 1 || origin.Host == "" || !strings.EqualFold(origin.Host, r.Host)
}

// writeJSON writes a response that must not be cached.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, body []byte) error {
	w.Header().Set("Content-Type", "application/json")
	noStore(w.Header())
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(body)
	return err
}
