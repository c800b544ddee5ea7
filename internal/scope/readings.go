package scope

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
)

// odd tells whether apps may read the path of a URL otherwise than Caddy's
// matchers do, which decode it once, merge slashes and resolve dots.
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

// readings returns the paths that apps may read from a URL: Express and Next.js
// match routes without resolving dots, what uses the URL class resolves them
// and takes what follows two slashes for a host; to some, an encoded slash
// separates segments, to others not; some take what follows a semicolon off,
// and some decode twice. The first is Caddy's own.
func readings(u *url.URL) []string {
	all := []string{u.Path}
	add := func(reading string) {
		if !slices.Contains(all, reading) {
			all = append(all, reading)
		}
	}
	text := u.EscapedPath()
	for range 3 { // as it is, decoded once more, and twice
		for _, text := range []string{text, withoutHost(text), withoutParameters(text)} {
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

// inert stands for what is neither a separator nor a dot to a reader.
const inert = "-"

// split returns the decoded segments of an escaped path. Slashes in disguise
// separate as well, or are part of a segment.
func split(text string, disguised bool) []string {
	if disguised {
		return strings.Split(strings.ReplaceAll(unescape(text), `\`, "/"), "/")
	}
	segments := strings.Split(text, "/")
	for i, segment := range segments {
		segments[i] = strings.NewReplacer("/", inert, `\`, inert).Replace(unescape(segment))
	}
	return segments
}

// unescape decodes a path once, where it can be decoded.
func unescape(text string) string {
	if decoded, err := url.PathUnescape(text); err == nil {
		return decoded
	}
	return text
}

// withoutHost is a path without what stands after two slashes at its start.
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

// withoutParameters is a path whose segments end at their semicolon.
func withoutParameters(text string) string {
	segments := strings.Split(text, "/")
	for i, segment := range segments {
		segments[i], _, _ = strings.Cut(segment, ";")
	}
	return strings.Join(segments, "/")
}

// ofOdd is Of for a request with an odd path: it is guarded when it is in any
// reading, but where all of them sign in.
func (r Rules) ofOdd(req *http.Request, asked *url.URL) (Scope, error) {
	if req.URL.Opaque != "" { // no path at all, and what reaches the app is the client's choice
		return Guarded, nil
	}
	own, first := readings(req.URL), readings(asked)
	elsewhere := func(path string) bool { return !r.SignsIn(path) }
	if !slices.ContainsFunc(own, elsewhere) || !slices.ContainsFunc(first, elsewhere) {
		return r.signingIn(), nil
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
	switch {
	case r.scrub == scrubAll:
		return Scrubbed, nil
	case slices.ContainsFunc(own, r.SignsIn), slices.ContainsFunc(first, r.SignsIn):
		return r.signingIn(), nil
	}
	return Passed, nil
}
