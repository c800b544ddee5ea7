package answer

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Limits on the cookies that one response clears, because their names come from
// the request.
const (
	maxCleared   = 64
	maxNameBytes = 8 << 10
	maxVariants  = 40 // a proxy in front may accept few KiB of header
)

// Clear adds to a response header what clears the cookies of a session and keeps
// the response out of caches. It skips names that set reports the response to set
// itself. set may be nil. Without a cookie to clear, it changes nothing.
//
// A cookie that comes back although it was just cleared is cleared for every Domain
// and Path that it can have.
func (a *Responder) Clear(h http.Header, r *http.Request, ended Ended, set func(name string) bool) {
	https := secure(r)
	cleared := make(map[string]bool)
	size, variants := 0, 0
	for _, name := range ended.Names {
		if cleared[name] || set != nil && set(name) {
			continue
		}
		if size += len(name); size > maxNameBytes || len(cleared) == maxCleared {
			break
		}
		cleared[name] = true
		a.clear(h, name, https)
		if variants < maxVariants && ended.Marker.Returns() {
			for _, at := range possible(r, https) {
				if variants++; variants > maxVariants {
					break
				}
				at.clear(h, name, https)
			}
		}
	}
	if len(cleared) == 0 && len(ended.Names) > 0 { // the response sets a new session
		return
	}
	if len(cleared) > 0 || len(ended.Marks) > 0 {
		keepOut(h)
	}
	if len(ended.Marks) > 0 {
		ended.mark(h, https)
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
	for _, at := range a.seen() {
		if at != (place{path: "/"}) && at != (place{domain: strings.TrimPrefix(a.cookieDomain, "."), path: "/"}) {
			at.clear(h, name, https)
		}
	}
}

// keepOut keeps a response, which depends on the session, out of caches.
func keepOut(h http.Header) {
	noStore(h)
	vary(h, "Cookie")
}

// noStore keeps a response out of caches.
func noStore(h http.Header) {
	if field := h["Cache-Control"]; len(field) != 1 || field[0] != "no-store" {
		h.Set("Cache-Control", "no-store")
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

// possible returns where a cookie of a request can be, but for the likeliest place:
// on the host and each domain above, on the path and each above. Only on HTTPS can
// it be partitioned. A browser ignores what cannot be, such as a public suffix.
func possible(r *http.Request, https bool) []place {
	domains := []string{""}
	host := strings.ToLower(hostname(r))
	for domain := host; strings.Contains(domain, ".") && strings.ContainsFunc(domain[strings.LastIndexByte(domain, '.')+1:], isLetter) && len(domains) < 5; {
		domains = append(domains, domain)
		_, domain, _ = strings.Cut(domain, ".")
	}
	paths := []string{"/"}
	for i, c := range Requested(r).EscapedPath() {
		if c == '/' && i > 0 && len(paths) < 4 {
			paths = append(paths, Requested(r).EscapedPath()[:i])
		}
	}
	if path := Requested(r).EscapedPath(); len(path) > 1 && !slices.Contains(paths, path) && len(paths) < 5 {
		paths = append(paths, path)
	}
	var all []place
	for _, path := range paths {
		for _, domain := range domains {
			all = append(all, place{domain: domain, path: path})
			if https {
				all = append(all, place{domain, path, true})
			}
		}
	}
	return all[1:] // without {path: "/"}
}

func isLetter(c rune) bool { return 'a' <= c && c <= 'z' || c >= 0x80 }
