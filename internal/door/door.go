// Package door knows the requests by which the clients of frameworks run the code
// of a page: from any path, on a path that all pages share, or by another name of
// the page's path.
package door

import (
	"net/http"
	"net/url"
	"strings"
)

// Door is a kind of request that the client of a framework makes, and follows the
// answer of.
type Door int

// The doors. Those of a page are requests for its path, or for a twin of it.
const (
	// None is any other request: for a page, a file, an API.
	None Door = iota
	// NextAction is a Server Action of Next.js.
	NextAction
	// AstroForm is a form of Astro that calls an action.
	AstroForm
	// AstroAction is a call of an action of Astro.
	AstroAction
	// AstroIsland is a server island of Astro.
	AstroIsland
	// QwikServer is a call of a server$ function of Qwik.
	QwikServer
	// KitCommand is a remote command of SvelteKit, or a batch of queries.
	KitCommand
	// KitRemote is a remote form or query of SvelteKit.
	KitRemote
	// KitAction is a form action of a page of SvelteKit.
	KitAction
	// KitData is the data of a page of SvelteKit.
	KitData
	// RouterData is the data or an action of a page of React Router or Remix.
	RouterData
	// StartServer is a call of a server function of TanStack Start.
	StartServer
	// SolidServer is a call of a server function of SolidStart.
	SolidServer
)

// reach says which pages' code runs through a door.
type reach int

const (
	ofPage   reach = iota // that of the page in the path
	anywhere              // that of any page, from the path of any page
	apart                 // that of any page, on a path of its own
)

// doors says how the doors are recognised; the first that matches is it.
//
// What is in the header or the query is the client's word, so it can only make a
// request more guarded than its path.
var doors = [...]struct {
	door  Door
	reach reach
	is    func(r *http.Request) bool
}{
	{NextAction, anywhere, func(r *http.Request) bool { return r.Method == http.MethodPost && has(r, "Next-Action") }},
	{AstroForm, anywhere, func(r *http.Request) bool { return r.Method == http.MethodPost && asks(r, "_action") }},
	{QwikServer, anywhere, func(r *http.Request) bool { return asks(r, "qfunc") || has(r, "X-Qrl") }},
	{AstroAction, apart, func(r *http.Request) bool { return below(r, "/_actions/") }},
	{AstroIsland, apart, func(r *http.Request) bool { return below(r, "/_server-islands/") }},
	{KitCommand, apart, func(r *http.Request) bool {
		return isRemote(r) && r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/json")
	}},
	{KitRemote, apart, isRemote},
	{StartServer, apart, func(r *http.Request) bool { return has(r, "X-Tsr-Serverfn") || below(r, "/_serverFn/") }},
	{SolidServer, apart, func(r *http.Request) bool {
		return has(r, "X-Server-Id") || below(r, "/_server/") || strings.HasSuffix(r.URL.Path, "/_server")
	}},
	{KitAction, ofPage, func(r *http.Request) bool {
		return r.Method == http.MethodPost && (has(r, "X-Sveltekit-Action") ||
			strings.HasPrefix(r.URL.RawQuery, "/") && strings.HasPrefix(r.Header.Get("Accept"), "application/json"))
	}},
	{KitData, ofPage, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "__data.json") }},
	{RouterData, ofPage, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, ".data") || asks(r, "_data") }},
}

// Of returns the door that a request opens.
func Of(r *http.Request) Door {
	for i := range doors {
		if doors[i].is(r) {
			return doors[i].door
		}
	}
	return None
}

// Shared reports whether the code of any page can run through a door, so that the
// path does not tell whether it is that of a guarded one.
func (d Door) Shared() bool { return d.reach() != ofPage }

// Apart reports whether a door has a path of its own, which is not that of a page.
func (d Door) Apart() bool { return d.reach() == apart }

func (d Door) reach() reach {
	for i := range doors {
		if doors[i].door == d {
			return doors[i].reach
		}
	}
	return ofPage
}

// isRemote reports whether a request calls a remote function of SvelteKit, whose
// folder the app can name.
func isRemote(r *http.Request) bool {
	return below(r, "/_app/remote/") || has(r, "X-Sveltekit-Pathname") ||
		r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-sveltekit-formdata")
}

// has reports whether a request has a field. Its name must be canonical.
func has(r *http.Request, field string) bool { return len(r.Header[field]) > 0 }

// below reports whether a path is below a folder, which may itself be below the
// base path of an app.
func below(r *http.Request, folder string) bool { return strings.Contains(r.URL.Path, folder) }

// asks reports whether the query has a parameter, however it is escaped.
func asks(r *http.Request, name string) bool {
	query := r.URL.RawQuery
	if !strings.Contains(query, name) && !strings.Contains(query, "%") {
		return false
	}
	for pair := range strings.SplitSeq(query, "&") {
		if key, _, _ := strings.Cut(pair, "="); names(key, name) {
			return true
		}
	}
	return false
}

// names reports whether the key of a parameter is a name once its escapes are
// decoded. It allocates nothing, because anybody can send thousands.
func names(key, name string) bool {
	for i := range len(name) {
		if key == "" {
			return false
		}
		c, size := key[0], 1
		if c == '%' && len(key) >= 3 {
			high, low := strings.IndexByte(hexDigits, lower(key[1])), strings.IndexByte(hexDigits, lower(key[2]))
			if high < 0 || low < 0 {
				return false
			}
			c, size = byte(high<<4|low), 3 //nolint:gosec // below 256
		}
		if c != name[i] {
			return false
		}
		key = key[size:]
	}
	return key == ""
}

const hexDigits = "0123456789abcdef"

func lower(c byte) byte {
	if 'A' <= c && c <= 'F' {
		c += 'a' - 'A'
	}
	return c
}

// Referer returns the page of the same site that made a request, as the browser
// says; nil if there is none.
func Referer(r *http.Request) *url.URL {
	field := r.Header.Get("Referer")
	if field == "" {
		return nil
	}
	referer, err := url.Parse(field)
	if err != nil || referer.Host == "" || referer.Opaque != "" || !strings.EqualFold(referer.Host, r.Host) {
		return nil
	}
	return referer
}
