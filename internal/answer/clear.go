package answer

import (
	"cmp"
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
// the response out of caches. Without a cookie to clear, it changes nothing. Of a
// name that set reports the response to set itself, it clears only what is
// elsewhere. set may be nil.
//
// A cookie that comes back although it was just cleared is cleared for every Domain
// and Path that it can have.
func (a *Responder) Clear(h http.Header, r *http.Request, ended Ended, set func(name string) bool) {
	https, returns := secure(r), ended.Marker.Returns()
	cleared := make(map[string]bool)
	size, variants := 0, maxVariants
	everywhere := func(name string, places []place) {
		for _, at := range places[:min(len(places), variants)] {
			at.clear(h, name, https)
			variants--
			cleared[name] = true
		}
	}
	for _, name := range ended.Names {
		if cleared[name] {
			continue
		}
		if size += len(name); size > maxNameBytes || len(cleared) == maxCleared {
			break
		}
		if set != nil && set(name) {
			if at, ok := placeOf(h, []string{name}); ok && !returns {
				everywhere(name, elsewhere(r, at, https))
			}
			continue
		}
		cleared[name] = true
		a.clear(h, name, https)
		if returns {
			everywhere(name, possible(r, https))
		}
	}
	if at, known := a.kept.find(onHost(r, ended.Live)); known && !returns && at.sentWith(r, https) {
		for _, name := range ended.Beside {
			if renewed, sets := placeOf(h, []string{name}); renewed == at || !sets && (set == nil || !set(name)) {
				everywhere(name, elsewhere(r, at, https))
			}
		}
	}
	if len(cleared) == 0 && len(ended.Names)+len(ended.Beside) > 0 { // the browser has a live session of that name
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
	if !host {
		domains = append(domains, a.cookieDomains...)
	}
	for _, cookie.Domain = range domains {
		if field := cookie.String(); field != "" { // else the name is invalid: no browser has such a cookie
			h.Add("Set-Cookie", field)
		}
	}
	for _, at := range a.seen() {
		if at.path != "/" || at.partitioned || !slices.Contains(domains, at.domain) {
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

// elsewhere returns where a cookie that a request has can be, if it is not at the
// given place. Only there can a browser be told to delete a cookie without touching
// the one at that place. It returns nothing where a browser may have cookies that it
// does not send, as other sites make it do, or where it may see another place in the
// attributes than we do.
func elsewhere(r *http.Request, at place, https bool) []place {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "same-site", "none":
	default:
		return nil
	}
	all := append([]place{{path: "/"}}, possible(r, https)...)
	if !slices.ContainsFunc(all, func(p place) bool { return p.domain == at.domain }) {
		return nil
	}
	// To some browsers, a host and the domain of that name are the same, and
	// partitions are unknown.
	host := strings.ToLower(hostname(r))
	return slices.DeleteFunc(all, func(p place) bool {
		return p.path == at.path && cmp.Or(p.domain, host) == cmp.Or(at.domain, host)
	})
}

// sentWith reports whether a browser sends a cookie that it keeps at a place with a
// request.
func (p place) sentWith(r *http.Request, https bool) bool {
	p.partitioned = false
	return p == (place{path: "/"}) || slices.Contains(possible(r, https), p)
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
