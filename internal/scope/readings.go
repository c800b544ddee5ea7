package scope

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/seed-4adef13c/caddy-stale-session/internal/door"
)

// unusual reports whether a path has several readings.
func unusual(u *url.URL) bool { return odd(u) || door.Pages(u.Path) != nil }

// odd reports whether apps may parse the path of a URL differently from Caddy's
// matchers, which decode it once, merge slashes and resolve dots.
func odd(u *url.URL) bool {
	text := u.Path
	for i := range len(text) {
		switch text[i] {
		case '\\', '%', ';':
			return true
		case '/':
			if i+1 < len(text) && (text[i+1] == '/' || text[i+1] == '.') {
				return true
			}
		}
	}
	return u.Opaque != "" || u.RawPath != "" && strings.Contains(strings.ToLower(u.RawPath), "%2f")
}

// readings returns the paths that apps may see in a URL. Express and Next.js match
// routes without resolving dots. The URL class resolves them, and takes what
// follows two leading slashes for a host. An encoded slash separates segments in
// some apps only; some drop what follows a semicolon, and some decode twice.
// Frameworks run the code of a page for twins of its path. The first reading is
// Caddy's own.
func readings(u *url.URL) []string {
	all := []string{u.Path}
	add := func(reading string) {
		if !slices.Contains(all, reading) {
			all = append(all, reading)
		}
		for _, page := range door.Pages(reading) {
			if page = path.Join("/", page); !slices.Contains(all, page) {
				all = append(all, page)
			}
		}
	}
	add(u.Path)
	text := u.EscapedPath()
	for range 3 { // decoded once, twice and three times
		forms := []string{text, withoutHost(text), withoutParameters(text)}
		for i, text := range forms {
			if slices.Contains(forms[:i], text) {
				continue
			}
			for _, segments := range [][]string{split(text, true), split(text, false)} {
				add(path.Join("/", strings.Join(segments, "/")))
				for i, segment := range segments {
					if segment == "." || segment == ".." {
						segments[i] = inert
					}
				}
				add(path.Join("/", strings.Join(segments, "/")))
			}
		}
		decoded := unescape(text)
		if !strings.Contains(decoded, "%") {
			break
		}
		text = decoded
	}
	return all
}

// inert replaces what a reading takes for neither a separator nor a dot.
const inert = "-"

var inertSeparators = strings.NewReplacer("/", inert, `\`, inert)

// split returns the decoded segments of an escaped path. Escaped slashes and
// backslashes separate segments if separate is true, else they are part of one.
func split(text string, separate bool) []string {
	if separate {
		return strings.Split(strings.ReplaceAll(unescape(text), `\`, "/"), "/")
	}
	segments := strings.Split(text, "/")
	for i, segment := range segments {
		segments[i] = inertSeparators.Replace(unescape(segment))
	}
	return segments
}

// unescape decodes a path once. It returns a path that cannot be decoded as it is.
func unescape(text string) string {
	if decoded, err := url.PathUnescape(text); err == nil {
		return decoded
	}
	return text
}

// withoutHost removes a host, which follows two leading slashes, from a path.
func withoutHost(text string) string {
	host := strings.TrimLeft(text, "/")
	if len(text)-len(host) < 2 {
		return text
	}
	if _, rest, found := strings.Cut(host, "/"); found {
		return "/" + rest
	}
	return "/"
}

// withoutParameters ends each segment of a path at its semicolon.
func withoutParameters(text string) string {
	segments := strings.Split(text, "/")
	for i, segment := range segments {
		segments[i], _, _ = strings.Cut(segment, ";")
	}
	return strings.Join(segments, "/")
}

// maxUnusual is how long an unusual path is read, in bytes. The readings of a longer
// one would cost more than all else of a request.
const maxUnusual = 1 << 10

// ofUnusual is Of for a request with an unusual path: guarded if any reading is,
// unless all readings sign in.
func (r Rules) ofUnusual(req *http.Request, asked *url.URL) (Scope, error) {
	if req.URL.Opaque != "" { // it has no path, and the client decides what the app sees
		return Guarded, nil
	}
	if len(req.URL.EscapedPath()) > maxUnusual || len(asked.EscapedPath()) > maxUnusual {
		return Guarded, nil
	}
	own := readings(req.URL)
	first := own
	if asked != req.URL {
		first = readings(asked)
	}
	signsIn := func(path string) bool { return r.pageSignsIn(req.Host, path) }
	elsewhere := func(path string) bool { return !signsIn(path) }
	if !slices.ContainsFunc(own, elsewhere) || !slices.ContainsFunc(first, elsewhere) {
		return r.unguarded(req, true), nil
	}
	for i, reading := range own {
		read := req
		if i > 0 {
			copied := *req
			copied.URL = &url.URL{Path: reading, RawQuery: req.URL.RawQuery}
			read = &copied
		}
		guarded, err := r.guarded.AnyMatchWithError(read)
		if err != nil {
			return Passed, err
		}
		if guarded {
			return Guarded, nil
		}
	}
	return r.unguarded(req, slices.ContainsFunc(own, signsIn) || slices.ContainsFunc(first, signsIn)), nil
}
