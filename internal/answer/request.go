package answer

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// maxCallback bounds the way back, in bytes.
const maxCallback = 2048

// Preflight tells whether a request is a browser's question before a
// cross-origin request (Fetch, section 3.2.2). It carries no cookies.
func Preflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// navigates tells whether a person's browser asks for a page to show. Modern
// browsers say so (Fetch Metadata, section 2); of others it is believed that
// ask for HTML by name.
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

// acceptsHTML tells whether an Accept field names HTML. "*/*" does not: it is
// what programs send.
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

// quality reads the q of a media range (RFC 9110, section 12.4.2), 1 when
// there is none.
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

// callback is the way back to the page that was asked for: path and query of a
// GET as the browser sent it, before any rewrite. It is empty when there is
// none, or when some reader might take it for another site's.
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

// plainPath tells whether an escaped path is one that every reader understands
// alike: no empty segments, no dots, no slashes, backslashes or control
// characters in disguise.
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

// withoutRSC is a query without the parameter by which Next.js keeps caches
// apart.
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

// secure tells whether the client's connection is HTTPS: to us, or to a proxy
// before us that Caddy trusts.
func secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}
