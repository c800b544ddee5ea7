package door

import (
	"cmp"
	"strings"
)

// suffixes are what the twins of a page's path end with, and what the page's path
// ends with instead.
var suffixes = [...]struct{ twin, page string }{
	{"/__data.json", ""}, {".html__data.json", ".html"}, // SvelteKit
	{"/_root.data", "/"}, {"/_.data", "/"}, {".data", ""}, // React Router
	{"/q-data.json", ""},                         // Qwik
	{"/_payload.json", ""}, {"/_payload.js", ""}, // Nuxt
}

// nextData is the folder of the data of pages in Next.js, below the base path and
// followed by the id of the build.
const nextData = "/_next/data/"

// Pages returns the paths of the pages whose code runs for a path that is a twin
// of theirs; nil if it is not one. A page is what the framework may take it for.
func Pages(path string) []string {
	if base, rest, found := strings.Cut(path, nextData); found {
		_, page, _ := strings.Cut(rest, "/")
		if page, found = strings.CutSuffix("/"+page, ".json"); found {
			return nextPages(base, page)
		}
		return nil
	}
	for _, s := range suffixes {
		page, found := strings.CutSuffix(path, s.twin)
		if !found {
			continue
		}
		return []string{cmp.Or(strings.TrimSuffix(page+s.page, "/"), "/")}
	}
	return nil
}

// nextPages returns the pages of a path below the id of the build. Next.js drops
// "/index" from its beginning (getRouteFromAssetPath).
func nextPages(base, page string) []string {
	pages := []string{base + page}
	dropped := page
	for rest, found := strings.CutPrefix(dropped, "/index"); found && (rest == "" || rest[0] == '/'); rest, found = strings.CutPrefix(dropped, "/index") {
		dropped = rest
	}
	if dropped != page {
		pages = append(pages, cmp.Or(base+dropped, "/"))
	}
	return pages
}
