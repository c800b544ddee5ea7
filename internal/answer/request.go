package answer

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

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

// secure reports whether the client connects by HTTPS, to Caddy or to a proxy in
// front that Caddy trusts.
func secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}
