package answer

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// maxCallback is the longest callbackUrl, in bytes.
const maxCallback = 2048

// Preflight reports whether a request is a CORS preflight (Fetch, section 3.2.2).
// Browsers send those without cookies.
func Preflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// navigates reports whether a request is a browser's navigation. Modern browsers
// send Fetch Metadata (section 2); with others, a GET that accepts HTML by name
// counts.
func navigates(r *http.Request) bool {
	h := r.Header
	switch {
	case h.Get("Upgrade") != "", h.Get("Next-Action") != "", h.Get("X-Requested-With") != "":
		return false
	case h.Get("Rsc") != "", h.Get("Next-Router-Prefetch") != "", h.Get("X-Nextjs-Data") != "":
		return false
	case h.Get("Sec-Fetch-Mode") != "":
		return h.Get("Sec-Fetch-Mode") == "navigate"
	case h.Get("Sec-Fetch-Site") != "", h.Get("Sec-Fetch-Dest") != "":
		return false
	}
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && acceptsHTML(h.Values("Accept"))
}

// acceptsHTML reports whether Accept fields name HTML. "*/*" does not count: API
// clients send it.
func acceptsHTML(fields []string) bool {
	for _, field := range fields {
		for item := range strings.SplitSeq(field, ",") {
			media, parameters, _ := strings.Cut(item, ";")
			switch strings.ToLower(strings.TrimSpace(media)) {
			case "text/html", "application/xhtml+xml":
				if quality(parameters) > 0 {
					return true
				}
			}
		}
	}
	return false
}

// quality returns the q of a media range (RFC 9110, section 12.4.2): 1 if it has
// none, 0 if it is invalid.
func quality(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return 0
			}
			return q
		}
	}
	return 1
}

// callback returns the page to return to after signing in: path and query of a GET
// as the browser sent it, before any rewrite. It is empty for other methods, and
// for a path that some parser could take for another site's.
func callback(r *http.Request) string {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return ""
	}
	u := r.URL
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		u = original.URL
	}
	path := u.EscapedPath()
	if !plainPath(path) {
		return ""
	}
	if query := withoutRSC(u.RawQuery); query != "" {
		path += "?" + query
	}
	if len(path) > maxCallback {
		return ""
	}
	return path
}

// plainPath reports whether every parser reads an escaped path alike: it has no
// empty or dot segments, and no escaped slashes, backslashes or control
// characters.
func plainPath(path string) bool {
	rest, rooted := strings.CutPrefix(path, "/")
	if !rooted {
		return false
	}
	segments := strings.Split(rest, "/")
	for i, segment := range segments {
		text, err := url.PathUnescape(segment)
		if err != nil || text == "." || text == ".." || text == "" && i < len(segments)-1 {
			return false
		}
		if strings.ContainsFunc(text, func(c rune) bool { return c == '/' || c == '\\' || c < ' ' || c == 0x7f }) {
			return false
		}
	}
	return true
}

// withoutRSC removes the parameter _rsc from a query, which Next.js adds to its
// own fetches.
func withoutRSC(query string) string {
	if !strings.Contains(query, "_rsc") {
		return query
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(pair, "="); name != "_rsc" {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

// secure reports whether the client connects by HTTPS, to Caddy or to a proxy in
// front that Caddy trusts.
func secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}
