// Package answer answers requests whose session is stale, in the way that fits
// who asks, and clears cookies.
package answer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
)

// Responder answers requests whose session is stale. It is safe for concurrent
// use.
type Responder struct {
	signIn       url.URL
	respond      string
	cookieNames  []string
	cookieDomain string
	body         []byte
}

// message is what people are told.
const message = "Your session is no longer valid. Please sign in again."

// New returns the responder that options describe, or an error that names an
// invalid option. ClearSession clears the cookies of the given names.
func New(options Answers, env environment.Environment, cookieNames []string) (*Responder, error) {
	domain, err := env.Fill("cookie_domain", options.CookieDomain)
	if err != nil {
		return nil, err
	}
	if domain != "" && (&http.Cookie{Name: "a", Domain: domain}).Valid() != nil {
		return nil, fmt.Errorf("cookie_domain is %q; it must be a domain, such as example.com", domain)
	}
	address, err := options.signInAddress(env)
	if err != nil {
		return nil, err
	}
	signIn, err := parseSignIn(address)
	if err != nil {
		return nil, err
	}
	a := &Responder{signIn: *signIn, respond: cmp.Or(options.Respond, Auto), cookieNames: cookieNames, cookieDomain: domain}
	a.body, err = json.Marshal(map[string]string{"error": "stale_session", "message": message, "signIn": a.location("")})
	return a, err
}

// SignInPath returns the path of the sign-in page.
func (a *Responder) SignInPath() string { return a.signIn.Path }

// parseSignIn parses the address of the sign-in page. It accepts none that a
// browser could take for another site's.
func parseSignIn(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	local := strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "//")
	switch {
	case err != nil || strings.ContainsAny(address, "\\ ;"):
	case local && u.Host == "" && u.Scheme == "":
		return u, nil
	case !local && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil:
		return u, nil
	}
	return nil, fmt.Errorf("sign_in is %q; it must be a path that begins with one slash, or an http(s) URL", address)
}

// Stale answers a request whose session is stale, and clears cookies of the
// names.
func (a *Responder) Stale(w http.ResponseWriter, r *http.Request, names []string) error {
	a.Clear(w.Header(), r, names, nil)
	// No cache may keep what depends on a session, even where no cookie is
	// cleared.
	w.Header().Set("Cache-Control", "no-store")
	vary(w.Header(), "Cookie")
	switch a.Kind(r) {
	case ErrorRoute:
		return caddyhttp.Error(http.StatusUnauthorized, errors.New("stale session"))
	case Redirect:
		w.Header().Set("Location", a.location(callback(r)))
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	if r.Header.Get("Next-Action") != "" {
		// The client of a Server Action goes to this address, whatever the
		// status and without a type behind it: next 14.2, 15.5 and 16.4,
		// client/components/router-reducer/reducers/server-action-reducer.js.
		w.Header().Set("X-Action-Redirect", a.location(""))
	}
	return writeJSON(w, r, http.StatusUnauthorized, a.body)
}

// Replace is Stale in place of a response of the app whose header is about to
// go out. What the header says of the app's own answer is taken off.
func (a *Responder) Replace(w http.ResponseWriter, r *http.Request, names []string) error {
	h := w.Header()
	for field := range h {
		if strings.HasPrefix(field, "Content-") && field != "Content-Security-Policy" || slices.Contains(ofOneAnswer, field) {
			delete(h, field)
		}
	}
	return a.Stale(w, r, names)
}

// ofOneAnswer are the fields that go with a body or a status.
var ofOneAnswer = []string{
	"Accept-Ranges", "Age", "Cache-Control", "Etag", "Expires", "Last-Modified", "Location", "Pragma", "Retry-After", "Trailer", "Transfer-Encoding",
}

// Kind tells how a stale session is answered: Redirect, JSON or ErrorRoute.
func (a *Responder) Kind(r *http.Request) string {
	switch {
	case a.respond != Auto:
		return a.respond
	case navigates(r):
		return Redirect
	}
	return JSON
}

// location is the address of the sign-in page with the way back and the reason
// added, unless it has such parameters already.
func (a *Responder) location(callback string) string {
	u := a.signIn
	has := u.Query()
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

// ClearSession clears the session of the caller: by POST, and not for another
// site. Names are cookies of the request, which it clears besides the
// configured ones. It tells whether it did.
func (a *Responder) ClearSession(w http.ResponseWriter, r *http.Request, names []string) (cleared bool, err error) {
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return false, writeJSON(w, r, http.StatusMethodNotAllowed, []byte(`{"error":"method_not_allowed","message":"Use POST."}`))
	case crossSite(r):
		return false, writeJSON(w, r, http.StatusForbidden, []byte(`{"error":"cross_site","message":"The request comes from another site."}`))
	}
	a.Clear(w.Header(), r, slices.Concat(a.cookieNames, names), nil)
	return true, writeJSON(w, r, http.StatusOK, []byte(`{"success":true,"message":"Session cleared successfully"}`))
}

// crossSite tells whether a page of another origin has made the request. One
// of a sibling domain counts too. Programs such as curl say nothing of it.
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

// writeJSON writes an answer that nobody may keep.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, body []byte) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(body)
	return err
}
