package door

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// TestOf has the requests that the clients of the frameworks send.
func TestOf(t *testing.T) {
	for name, c := range map[string]struct {
		method, target string
		header         http.Header
		want           Door
		shared, apart  bool
	}{
		"a page":                                 {"GET", "/admin?x=1", nil, None, false, false},
		"a form":                                 {"POST", "/admin", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, None, false, false},
		"an API":                                 {"POST", "/api/upload", http.Header{"Content-Type": {"application/json"}}, None, false, false},
		"an API that only looks alike":           {"GET", "/_serverless/x", nil, None, false, false},
		"a Server Action":                        {"POST", "/", http.Header{"Next-Action": {"0042"}}, NextAction, true, false},
		"a Server Action at a file":              {"POST", "/favicon.ico", http.Header{"Next-Action": {"0042"}}, NextAction, true, false},
		"an action's field in a GET":             {"GET", "/", http.Header{"Next-Action": {"0042"}}, None, false, false},
		"an Astro form":                          {"POST", "/pub?_action=save", nil, AstroForm, true, false},
		"an Astro form, escaped":                 {"POST", "/pub?x=%zz&%5Faction=save", nil, AstroForm, true, false},
		"an Astro form beside a semicolon":       {"POST", "/pub?a;b&_action=save", nil, AstroForm, true, false},
		"a parameter that only ends alike":       {"POST", "/pub?my_action=save", nil, None, false, false},
		"an Astro action":                        {"POST", "/_actions/save/", nil, AstroAction, true, true},
		"an Astro action below a base path":      {"POST", "/shop/_actions/save", nil, AstroAction, true, true},
		"an Astro island":                        {"GET", "/_server-islands/Cart?e=&p=&s=", nil, AstroIsland, true, true},
		"a server$ of Qwik":                      {"POST", "/?qfunc=x", http.Header{"X-Qrl": {"x"}}, QwikServer, true, false},
		"a server$ of Qwik by GET":               {"GET", "/pub/?qfunc=x&qdata=y", nil, QwikServer, true, false},
		"a remote form of SvelteKit":             {"POST", "/_app/remote/h/save", http.Header{"Content-Type": {"application/x-sveltekit-formdata"}}, KitRemote, true, true},
		"a remote form of an early version":      {"POST", "/_app/remote/h/save", http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}, KitRemote, true, true},
		"a remote form, other appDir":            {"POST", "/kit/remote/h/save", http.Header{"Content-Type": {"application/x-sveltekit-formdata"}}, KitRemote, true, true},
		"a remote query, other appDir":           {"GET", "/kit/remote/h/list", http.Header{"X-Sveltekit-Pathname": {"/admin"}}, KitRemote, true, true},
		"a remote command of SvelteKit":          {"POST", "/_app/remote/h/save", http.Header{"Content-Type": {"application/json"}}, KitCommand, true, true},
		"a remote query of SvelteKit":            {"GET", "/_app/remote/h/list?payload=x", nil, KitRemote, true, true},
		"an action of SvelteKit":                 {"POST", "/p?/save", http.Header{"X-Sveltekit-Action": {"true"}}, KitAction, false, false},
		"an action of SvelteKit without a sign":  {"POST", "/p?/save", http.Header{"Accept": {"application/json"}}, KitAction, false, false},
		"an action of SvelteKit by a plain form": {"POST", "/p?/save", http.Header{"Accept": {"text/html"}}, None, false, false},
		"data of SvelteKit":                      {"GET", "/p/__data.json?x-sveltekit-invalidated=01", nil, KitData, false, false},
		"data of React Router":                   {"GET", "/p.data?_routes=x", nil, RouterData, false, false},
		"an action of React Router":              {"POST", "/p.data", nil, RouterData, false, false},
		"data of Remix":                          {"GET", "/p?_data=routes%2Fp", nil, RouterData, false, false},
		"a server function of TanStack":          {"POST", "/_serverFn/ab", http.Header{"X-Tsr-Serverfn": {"true"}}, StartServer, true, true},
		"the same without a sign":                {"GET", "/_serverFn/ab", nil, StartServer, true, true},
		"the same on another base":               {"POST", "/fn/ab", http.Header{"X-Tsr-Serverfn": {"true"}}, StartServer, true, true},
		"a server function of SolidStart":        {"POST", "/_server", http.Header{"X-Server-Id": {"x"}}, SolidServer, true, true},
		"the same without JavaScript":            {"POST", "/_server?id=x", nil, SolidServer, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(c.method, c.target, http.NoBody)
			r.Header = c.header
			if got := Of(r); got != c.want || got.Shared() != c.shared || got.Apart() != c.apart {
				t.Errorf("door %d, shared %t, apart %t; want %d, %t, %t", got, got.Shared(), got.Apart(), c.want, c.shared, c.apart)
			}
		})
	}
}

func TestPages(t *testing.T) {
	for path, want := range map[string][]string{
		"/_next/data/build/admin.json":         {"/admin"},
		"/_next/data/build/en/admin/a.json":    {"/en/admin/a"},
		"/_next/data/build/index.json":         {"/index", "/"},
		"/_next/data/build/index/admin.json":   {"/index/admin", "/admin"},
		"/_next/data/b/index/index/admin.json": {"/index/index/admin", "/admin"},
		"/_next/data/b/indexed.json":           {"/indexed"},
		"/shop/_next/data/build/admin.json":    {"/shop/admin"},
		"/shop/_next/data/build/index.json":    {"/shop/index", "/shop"},
		"/_next/data/build/admin":              nil,
		"/_next/static/build/admin.json":       nil,
		"/admin/__data.json":                   {"/admin"},
		"/__data.json":                         {"/"},
		"/admin.html__data.json":               {"/admin.html"},
		"/admin.data":                          {"/admin"},
		"/admin/.data":                         {"/admin"},
		"/admin/_.data":                        {"/admin"},
		"/_.data":                              {"/"},
		"/_root.data":                          {"/"},
		"/admin/q-data.json":                   {"/admin"},
		"/q-data.json":                         {"/"},
		"/admin/_payload.json":                 {"/admin"},
		"/admin/_payload.js":                   {"/admin"},
		"/admin":                               nil,
		"/":                                    nil,
		"/data":                                nil,
		"/admin.json":                          nil,
	} {
		if got := Pages(path); !slices.Equal(got, want) {
			t.Errorf("%s is the twin of %q, want %q", path, got, want)
		}
	}
}

func TestReferer(t *testing.T) {
	for referer, want := range map[string]string{
		"http://app.test/admin?x=1":   "/admin",
		"https://APP.test/admin":      "/admin", // behind a proxy that ends TLS
		"http://app.test":             "",
		"":                            "none",
		"/admin":                      "none",
		"https://evil.example/admin":  "none",
		"http://app.test@evil.test/x": "none",
		"http://app.test.evil/x":      "none",
		"http:app.test/x":             "none",
		"http://[/":                   "none",
		"about:blank":                 "none",
	} {
		r := httptest.NewRequest(http.MethodPost, "http://app.test/", http.NoBody)
		r.Header.Set("Referer", referer)
		got := "none"
		if page := Referer(r); page != nil {
			got = page.Path
		}
		if got != want {
			t.Errorf("%q: page %q, want %q", referer, got, want)
		}
	}
}

// TestALongQueryIsReadWithoutAllocations has a query of thousands of parameters.
func TestALongQueryIsReadWithoutAllocations(t *testing.T) {
	for _, piece := range []string{"&a", "&%41", "&%41%41%41%41%41%41%41", "&%zz", "&_actio%6f", "&_data%"} {
		r := httptest.NewRequest(http.MethodPost, "/pub?"+strings.Repeat(piece, 5_000), http.NoBody)
		if opened := Of(r); opened != None {
			t.Errorf("%q opens door %d", piece, opened)
		}
		if n := testing.AllocsPerRun(5, func() { Of(r) }); n > 0 {
			t.Errorf("%q: %.0f allocations", piece, n)
		}
	}
}
