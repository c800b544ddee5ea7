package answer

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// LeadsInside returns the address that a response of the sign-in page sends people
// to, at once or when they have signed in, if only this machine or its network can
// reach it, and the request was for another; else it is empty.
func LeadsInside(r *http.Request, header http.Header, status int) string {
	origins := Origins(header, status)
	if len(origins) == 0 || isInside(hostname(r)) {
		return ""
	}
	for _, to := range origins {
		if !strings.EqualFold(to.Host, r.Host) && IsInside(to) && !strings.Contains(r.URL.Query().Get("callbackUrl"), to.Host) {
			return to.String()
		}
	}
	return ""
}

// Origins returns the origins that a response of an app names: the one that it
// redirects to, and those to return to after signing in, by which Auth.js shows what
// it takes for its own.
func Origins(header http.Header, status int) []url.URL {
	var all []url.URL
	add := func(address string) {
		if u, err := url.Parse(address); err == nil && u.Host != "" {
			all = append(all, url.URL{Scheme: u.Scheme, Host: u.Host})
		}
	}
	if status >= http.StatusMultipleChoices && status < http.StatusBadRequest {
		location := header.Get("Location")
		add(location)
		if u, err := url.Parse(location); err == nil {
			add(u.Query().Get("callbackUrl"))
		}
	}
	for _, line := range header["Set-Cookie"] {
		if cookie, err := http.ParseSetCookie(line); err == nil && strings.HasSuffix(cookie.Name, ".callback-url") {
			if value, err := url.QueryUnescape(cookie.Value); err == nil {
				add(value)
			}
		}
	}
	return all
}

// IsInside reports whether only this machine or its network can reach an origin.
func IsInside(origin url.URL) bool { return isInside(origin.Hostname()) }

func isInside(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified()
	}
	return !strings.Contains(host, ".") // localhost, or the name of a container
}
