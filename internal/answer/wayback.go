package answer

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/door"
)

// maxCallback is the longest callbackUrl, in bytes.
const maxCallback = 2048

// wayBack returns the page to return to after signing in: path and query as the
// browser sent them, before any rewrite. It is the page that a person opens, else
// the page of this site that made the request. It is empty if there is none, and
// for a path that some parser could take for another site's.
func wayBack(r *http.Request, navigates bool) string {
	opened := door.Of(r)
	if reads := r.Method == http.MethodGet || r.Method == http.MethodHead; reads && !opened.Apart() && (navigates || opened != door.None) {
		return page(Requested(r))
	}
	if referer := door.Referer(r); referer != nil {
		return page(referer)
	}
	if opened != door.None && !opened.Apart() { // it is sent to its own page
		return page(Requested(r))
	}
	return ""
}

// Requested returns the URL that the client asked for, before any rewrite.
func Requested(r *http.Request) *url.URL {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		return original.URL
	}
	return r.URL
}

// page returns the path and query of the page at a URL, which may be one of its
// data.
func page(u *url.URL) string {
	if len(u.Path)+len(u.RawQuery) > 4*maxCallback { // whatever is left out of it
		return ""
	}
	path, query := u.EscapedPath(), pageQuery(u.RawQuery)
	if pages := door.Pages(path); pages != nil {
		path = pages[len(pages)-1]
		if strings.HasSuffix(u.Path, "/_payload.json") { // the query is the id of the build
			query = ""
		}
	}
	if path == "" && u.Host != "" {
		path = "/"
	}
	if !plainPath(path) {
		return ""
	}
	if query != "" {
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

// internal are the parameters that clients of frameworks add to the query of a
// page.
var internal = []string{
	"_rsc",             // Next.js
	"_data", "_routes", // Remix, React Router
	"_action",                   // Astro
	"qaction", "qfunc", "qdata", // Qwik
	"x-sveltekit-invalidated", "x-sveltekit-trailing-slash", // SvelteKit
}

// pageQuery returns a query without what calls something on the page.
func pageQuery(query string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if pair != "" && !strings.HasPrefix(name, "/") && !slices.Contains(internal, name) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}
