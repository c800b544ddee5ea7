package answer

import (
	"net/http"
	"strings"
	"time"
)

// Limits on the cookies that one response clears, because their names come from
// the request.
const (
	maxCleared   = 64
	maxNameBytes = 8 << 10
)

// Clear adds to a response header what clears the cookies of the given names and
// keeps the response out of caches. It skips names that set reports the response
// to set itself. set may be nil. Without a cookie to clear, it changes nothing.
func (a *Responder) Clear(h http.Header, r *http.Request, names []string, set func(name string) bool) {
	https := secure(r)
	cleared := make(map[string]bool)
	size := 0
	for _, name := range names {
		if cleared[name] || set != nil && set(name) {
			continue
		}
		if size += len(name); size > maxNameBytes || len(cleared) == maxCleared {
			break
		}
		cleared[name] = true
		a.clear(h, name, https)
	}
	if len(cleared) > 0 {
		h.Set("Cache-Control", "no-store")
		vary(h, "Cookie")
	}
}

// clear adds the fields that make a browser delete a cookie. The domain and path
// must be those of the cookie (RFC 6265, section 5.3), and the field must follow
// the rules of a name's prefix (RFC 6265bis, section 4.1.3).
func (a *Responder) clear(h http.Header, name string, https bool) {
	host := strings.HasPrefix(name, "__Host-")
	cookie := http.Cookie{
		Name: name, Path: "/", MaxAge: -1, Expires: time.Unix(0, 0),
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: https || host || strings.HasPrefix(name, "__Secure-"),
	}
	domains := []string{""}
	if a.cookieDomain != "" && !host {
		domains = append(domains, a.cookieDomain)
	}
	for _, cookie.Domain = range domains {
		if field := cookie.String(); field != "" { // else the name is invalid: no browser has such a cookie
			h.Add("Set-Cookie", field)
		}
	}
}

// vary adds a field name to Vary, unless it is there.
func vary(h http.Header, name string) {
	for _, field := range h.Values("Vary") {
		for item := range strings.SplitSeq(field, ",") {
			if item = strings.TrimSpace(item); item == "*" || strings.EqualFold(item, name) {
				return
			}
		}
	}
	h.Add("Vary", name)
}
