package answer

import (
	"net/http"
	"strings"
	"time"
)

// Limits on the cookies that one answer clears: their names come from the
// request.
const (
	maxCleared   = 64
	maxNameBytes = 8 << 10
)

// Clear makes a response clear cookies of some names, but for those that set
// tells are set by it, and keeps it out of caches. Nothing is changed when
// there is nothing to clear.
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

// clear adds the fields that make the browser forget a cookie. It only does so
// for the same domain and path (RFC 6265, section 5.3), and heeds a name with
// a prefix only where the field keeps the prefix's rules (RFC 6265bis, section
// 4.1.3).
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
		if field := cookie.String(); field != "" { // else the name is none that a browser keeps
			h.Add("Set-Cookie", field)
		}
	}
}

// vary adds a field name to Vary.
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
