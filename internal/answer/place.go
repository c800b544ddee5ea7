package answer

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// place is where a browser keeps a cookie: it has one of the same name for each
// place.
type place struct {
	domain      string // empty for the host alone
	path        string
	partitioned bool
}

// clear adds the field that makes a browser delete a cookie there.
func (p place) clear(h http.Header, name string, https bool) {
	host := strings.HasPrefix(name, "__Host-")
	if host && (p.domain != "" || p.path != "/") {
		return
	}
	cookie := http.Cookie{
		Name: name, Domain: p.domain, Path: p.path, MaxAge: -1, Partitioned: p.partitioned,
		Secure: https || p.partitioned || host || strings.HasPrefix(name, "__Secure-"),
	}
	if field := cookie.String(); field != "" {
		h.Add("Set-Cookie", field)
	}
}

// maxPlaces bounds the places that are learned.
const maxPlaces = 4

// Learn notes where the app keeps its session cookies, by the Set-Cookie fields of a
// response for which isSession is true.
func (a *Responder) Learn(header http.Header, isSession func(name string) bool) {
	for _, line := range header["Set-Cookie"] {
		cookie, err := http.ParseSetCookie(line)
		if err != nil || cookie.MaxAge < 0 || cookie.Value == "" || !isSession(cookie.Name) {
			continue
		}
		at := place{strings.ToLower(strings.TrimPrefix(cookie.Domain, ".")), cookie.Path, cookie.Partitioned}
		if at.path == "" || at.path[0] != '/' {
			continue // that of the request
		}
		known := a.seen()
		if !slices.Contains(known, at) && len(known) < maxPlaces {
			all := append(slices.Clone(known), at)
			a.places.Store(&all)
		}
	}
}

// seen returns the places that were learned.
func (a *Responder) seen() []place {
	if places := a.places.Load(); places != nil {
		return *places
	}
	return nil
}

// Advice returns what to configure so that the session cookies of a request are
// deleted; empty if that is not known.
func (a *Responder) Advice() string {
	for _, at := range a.seen() {
		if at.domain != "" && !strings.EqualFold(at.domain, strings.TrimPrefix(a.cookieDomain, ".")) {
			return "the app sets it with Domain=" + at.domain + ": set `cookie_domain " + at.domain + "`"
		}
	}
	if a.cookieDomain == "" {
		return "if the app sets it with a Domain, set `cookie_domain` to that; if with a Path other than /, let it set Path=/"
	}
	return "compare its Domain, Path and Secure in the browser with `cookie_domain`; behind a proxy that ends TLS, set Caddy's trusted_proxies"
}

// LeadsInside returns the address that a response redirects to if only this machine
// or its network can reach it, and the request was for another; else it is empty.
func LeadsInside(r *http.Request, header http.Header, status int) string {
	if status < http.StatusMultipleChoices || status >= http.StatusBadRequest {
		return ""
	}
	to, err := url.Parse(header.Get("Location"))
	if err != nil || to.Host == "" || strings.EqualFold(to.Host, r.Host) || isInside(hostname(r)) {
		return ""
	}
	if !isInside(to.Hostname()) {
		return ""
	}
	return to.Scheme + "://" + to.Host
}

func isInside(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && (ip.IsLoopback() || ip.IsPrivate())
}

// hostname returns the host of a request without a port.
func hostname(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}
