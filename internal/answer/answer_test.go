package answer

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
)

func newResponder(t testing.TB, options Answers) *Responder {
	t.Helper()
	if options.SignIn == "" {
		options.SignIn = "/auth/signin"
	}
	a, err := New(options, environment.New(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestNavigates(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		header http.Header
		want   bool
	}{
		"a page":                    {"GET", http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}}, true},
		"a form":                    {"POST", http.Header{"Sec-Fetch-Mode": {"navigate"}}, true},
		"a frame":                   {"GET", http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"iframe"}}, true},
		"fetch":                     {"GET", http.Header{"Sec-Fetch-Mode": {"cors"}, "Accept": {"text/html"}}, false},
		"an image":                  {"GET", http.Header{"Sec-Fetch-Mode": {"no-cors"}, "Sec-Fetch-Dest": {"image"}}, false},
		"a WebSocket":               {"GET", http.Header{"Sec-Fetch-Mode": {"websocket"}, "Upgrade": {"websocket"}}, false},
		"metadata without a mode":   {"GET", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Accept": {"text/html"}}, false},
		"an old browser":            {"GET", http.Header{"Accept": {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}}, true},
		"an old browser's HEAD":     {"HEAD", http.Header{"Accept": {"Text/HTML"}}, true},
		"an old browser's form":     {"POST", http.Header{"Accept": {"text/html"}}, false},
		"xhtml alone":               {"GET", http.Header{"Accept": {"application/xhtml+xml"}}, true},
		"anything":                  {"GET", http.Header{"Accept": {"*/*"}}, false},
		"text of any kind":          {"GET", http.Header{"Accept": {"text/*"}}, false},
		"no HTML, please":           {"GET", http.Header{"Accept": {"text/html;q=0, application/json"}}, false},
		"HTML of a strange quality": {"GET", http.Header{"Accept": {"text/html;q=x"}}, false},
		"HTML in the second line":   {"GET", http.Header{"Accept": {"a/b", "text/html; level=1; q=0.5"}}, true},
		"nothing said":              {"GET", http.Header{}, false},
		"jQuery":                    {"GET", http.Header{"Accept": {"text/html"}, "X-Requested-With": {"XMLHttpRequest"}}, false},
		"a Server Action":           {"POST", http.Header{"Next-Action": {"x"}}, false},
		"client navigation":         {"GET", http.Header{"Rsc": {"1"}, "Accept": {"text/html"}}, false},
		"prefetch":                  {"GET", http.Header{"Next-Router-Prefetch": {"1"}, "Accept": {"text/html"}}, false},
		"data of the pages router":  {"GET", http.Header{"X-Nextjs-Data": {"1"}, "Accept": {"text/html"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "http://app.test/", nil)
			r.Header = c.header
			if got := navigates(r); got != c.want {
				t.Errorf("navigates %t, want %t", got, c.want)
			}
		})
	}
}

func TestSignInAddresses(t *testing.T) {
	for signIn, want := range map[string]string{
		"/auth/signin":                          "/auth/signin?callbackUrl=%2Fa%3Fb%3Dc%26d&error=SessionRequired",
		"/auth/signin?x=1":                      "/auth/signin?x=1&callbackUrl=%2Fa%3Fb%3Dc%26d&error=SessionRequired",
		"/auth/signin?error=Reseeded":           "/auth/signin?error=Reseeded&callbackUrl=%2Fa%3Fb%3Dc%26d",
		"/auth/signin?callbackUrl=/home#top":    "/auth/signin?callbackUrl=/home&error=SessionRequired#top",
		"https://id.example/login?client=x":     "https://id.example/login?client=x&callbackUrl=%2Fa%3Fb%3Dc%26d&error=SessionRequired",
		"http://localhost:3000/api/auth/signin": "http://localhost:3000/api/auth/signin?callbackUrl=%2Fa%3Fb%3Dc%26d&error=SessionRequired",
		"/":                                     "/?callbackUrl=%2Fa%3Fb%3Dc%26d&error=SessionRequired",
	} {
		if got := newResponder(t, Answers{SignIn: signIn}).location("/a?b=c&d"); got != want {
			t.Errorf("%s redirects to %s, want %s", signIn, got, want)
		}
	}
	for _, signIn := range []string{
		"//evil.example", `/\evil.example`, `\\evil.example`, "javascript:alert(1)", "login", "https://", "https://u:p@h/", "ftp://h/",
		"/a\nb", "/a b", "/a;b", "https:evil.example", " /a",
	} {
		if _, err := New(Answers{SignIn: signIn}, environment.New(), nil, nil); err == nil {
			t.Errorf("%q is accepted", signIn)
		}
	}
}

func TestInvalidOptions(t *testing.T) {
	for says, options := range map[string]Answers{
		`respond is "html"; it must be one of auto, redirect, json, error`: {Respond: "html"},
		`cookie_domain is "a b"`:                                      {CookieDomains: []string{"example.com", "a b"}},
		`cookie_domain is "a;Secure"`:                                 {CookieDomains: []string{"a;Secure"}},
		"cookie_domain: evaluated placeholder {env.NOT_SET} is empty": {CookieDomains: []string{"{env.NOT_SET}"}},
		"sign_in: evaluated placeholder {env.NOT_SET} is empty":       {SignIn: "{env.NOT_SET}"},
	} {
		_, err := New(options, environment.New(), nil, nil)
		if err = errors.Join(options.Validate(), err); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}

func TestSignInURL(t *testing.T) {
	for name, c := range map[string]struct {
		authURL, signIn, want string
		fails                 bool
	}{
		"by default":          {"https://app.example", "", "https://app.example/api/auth/signin", false},
		"with a base path":    {"https://app.example/shop/auth", "", "https://app.example/shop/auth/signin", false},
		"a path":              {"https://app.example/auth", "/login?x=1", "https://app.example/login?x=1", false},
		"a URL":               {"https://app.example", "https://id.example/login", "https://id.example/login", false},
		"of an unknown site":  {"", "/login", "", false},
		"an invalid address":  {"https://app.example", "login", "", true},
		"an unknown variable": {"https://app.example", "{env.NOT_SET}", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AUTH_URL", c.authURL)
			t.Setenv("NEXTAUTH_URL", "")
			got, err := SignInURL(Answers{SignIn: c.signIn}, environment.New())
			if got != c.want || (err != nil) != c.fails {
				t.Errorf("%q, error %v, want %q", got, err, c.want)
			}
		})
	}
}

// hostile are parts of addresses that some parser takes for another site's.
var hostile = []string{
	"//evil.example", "///evil.example", "////evil.example/..", "/\\evil.example", "/\\/evil.example", "\\\\evil.example",
	"/%5cevil.example", "/%5Cevil.example", "/%2fevil.example", "/%2Fevil.example", "/%2f%2fevil.example", "//%5cevil.example",
	"/./evil.example", "/.//evil.example", "/..//evil.example", "/../evil.example", "/%2e/evil.example", "/%2e%2e//evil.example", "/.%2e/evil",
	"/a//evil.example", "/a/..//evil.example", "/a/%2e%2e//evil.example", "/a\\..\\evil", "/\t/evil.example", "/%09/evil.example", "/%0a/evil.example",
	"/%0d%0aSet-Cookie:x=y", "/%00evil", "/%7fevil", "/%1b", "//user@evil.example", "//evil.example:80", "//[::1]/", "//evil%E3%80%82example",
	"//%EF%BC%8Fevil.example", "/a/./b", "/a/../b", "/;@evil.example//x", "/?//evil.example\\..//", "http://evil.example/", "https:evil.example", "*",
}

func TestTheWayBackLeadsNowhereElse(t *testing.T) {
	for _, target := range hostile {
		for _, prefix := range []string{"", "/a", "/admin/"} {
			for _, suffix := range []string{"", "/", "/x", "?next=//evil.example", "#//evil.example"} {
				checkCallback(t, prefix+target+suffix)
			}
		}
	}
	for target, want := range map[string]string{
		"/":                       "/",
		"/admin":                  "/admin",
		"/admin/":                 "/admin/",
		"/admin?x=1&y=%2F":        "/admin?x=1&y=%2F",
		"/admin?_rsc=abc":         "/admin",
		"/admin?a=1&_rsc=abc&b=2": "/admin?a=1&b=2",
		"/admin?x_rsc=1":          "/admin?x_rsc=1",
		"/caf%C3%A9/%E2%9C%93":    "/caf%C3%A9/%E2%9C%93",
		"/a%20b":                  "/a%20b",
		"/a?redirect=//evil":      "/a?redirect=//evil",
		"/.well-known/x":          "/.well-known/x",
		"/..a/b":                  "/..a/b",
	} {
		r := httptest.NewRequest(http.MethodGet, "http://app.test"+target, nil)
		if got := wayBack(r, true); got != want {
			t.Errorf("callback %q, want %q", got, want)
		}
	}
	long := httptest.NewRequest(http.MethodGet, "http://app.test/"+strings.Repeat("a", maxCallback), nil)
	if got := wayBack(long, true); got != "" {
		t.Errorf("callback of %d bytes", len(got))
	}
	form := httptest.NewRequest(http.MethodPost, "http://app.test/admin", nil)
	if got := wayBack(form, true); got != "" {
		t.Errorf("callback %q of a form", got)
	}
}

// checkCallback checks the callback of a request for a target: by the strictest
// reading it is a path of the site.
func checkCallback(t *testing.T, target string) {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return // Caddy answers 400
	}
	r := &http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}}
	back := wayBack(r, true)
	if back == "" {
		return
	}
	backPath, _, _ := strings.Cut(back, "?")
	decoded, err := url.PathUnescape(backPath)
	if err != nil {
		t.Errorf("%q has the callback %q, which cannot be decoded", target, back)
	}
	for _, form := range []string{backPath, decoded} {
		cleaned := path.Clean(form)
		if cleaned != "/" && strings.HasSuffix(form, "/") {
			cleaned += "/"
		}
		if !strings.HasPrefix(form, "/") || strings.HasPrefix(form, "//") || cleaned != form ||
			strings.ContainsFunc(form, func(c rune) bool { return c == '\\' || c < ' ' || c == 0x7f }) {
			t.Errorf("%q has the callback %q", target, form)
		}
	}
	location := newResponder(t, Answers{}).location(back)
	parsed, err := url.Parse(location)
	if err != nil || parsed.Path != "/auth/signin" || parsed.Host != "" || parsed.Query().Get("callbackUrl") != back || strings.ContainsAny(location, "\r\n\\ ") {
		t.Errorf("%q is redirected to %q, error %v", target, location, err)
	}
}

func FuzzCallback(f *testing.F) {
	for _, target := range hostile {
		f.Add(target)
	}
	f.Add("/admin?x=1&_rsc=2")
	f.Fuzz(checkCallback)
}

func FuzzAccept(f *testing.F) {
	f.Add("text/html;q=0.1, */*")
	f.Add("text/html;q=;q=1,,;")
	f.Fuzz(func(t *testing.T, field string) {
		if acceptsHTML([]string{field}) && !strings.Contains(strings.ToLower(field), "html") {
			t.Errorf("%q accepts HTML", field)
		}
	})
}

func TestClearing(t *testing.T) {
	a := newResponder(t, Answers{CookieDomains: []string{".Example.com", "example.org"}})
	r := httptest.NewRequest(http.MethodGet, "http://app.test/", nil)
	cleared := func(names []string, set func(string) bool) []string {
		h := http.Header{"Vary": {"Accept-Encoding"}, "Cache-Control": {"public"}}
		a.Clear(h, r, Ended{Names: names}, set)
		if len(h["Set-Cookie"]) > 0 && (h.Get("Cache-Control") != "no-store" || !slices.Equal(h["Vary"], []string{"Accept-Encoding", "Cookie"})) {
			t.Errorf("may be cached: %v", h)
		}
		if len(h["Set-Cookie"]) == 0 && len(names) == 0 && h.Get("Cache-Control") != "public" {
			t.Errorf("changed for nothing: %v", h)
		}
		var got []string
		for _, cookie := range (&http.Response{Header: h}).Cookies() {
			got = append(got, cookie.Name+"@"+cookie.Domain)
		}
		return got
	}
	for name, c := range map[string]struct {
		names []string
		set   func(string) bool
		want  []string
	}{
		"nothing":          {nil, nil, nil},
		"one":              {[]string{"s"}, nil, []string{"s@", "s@example.com", "s@example.org"}},
		"doubled":          {[]string{"s", "s"}, nil, []string{"s@", "s@example.com", "s@example.org"}},
		"one that is set":  {[]string{"s", "t"}, func(name string) bool { return name == "s" }, []string{"t@", "t@example.com", "t@example.org"}},
		"__Host-":          {[]string{"__Host-s"}, nil, []string{"__Host-s@"}},
		"no cookie's name": {[]string{"s\r\nX: y", "a b", ""}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := cleared(c.names, c.set); !slices.Equal(got, c.want) {
				t.Errorf("cleared %q, want %q", got, c.want)
			}
		})
	}
	var many []string
	for i := range 1000 {
		many = append(many, "s."+strings.Repeat("x", i%200)+string(rune('a'+i%26)))
	}
	if got := cleared(many, nil); len(got) > 3*maxCleared {
		t.Errorf("%d fields", len(got))
	}
	if got := cleared([]string{strings.Repeat("x", maxNameBytes+1)}, nil); got != nil {
		t.Errorf("a name of %d bytes was cleared", len(got[0]))
	}
}

// TestWhatIsNotAtThePlaceOfALiveCookie clears everything but that place.
func TestWhatIsNotAtThePlaceOfALiveCookie(t *testing.T) {
	for name, c := range map[string]struct {
		at   place
		site string // Sec-Fetch-Site
		want []string
	}{
		"on the host":                      {place{path: "/"}, "same-origin", []string{"example.test /", " /admin", "app.example.test /admin", "example.test /admin"}},
		"on the domain of the host's name": {place{domain: "app.example.test", path: "/"}, "none", []string{"example.test /", " /admin", "app.example.test /admin", "example.test /admin"}},
		"on the domain":                    {place{domain: "example.test", path: "/"}, "same-site", []string{" /", "app.example.test /", " /admin", "app.example.test /admin", "example.test /admin"}},
		"on the path":                      {place{path: "/admin"}, "same-origin", []string{" /", "app.example.test /", "example.test /", "example.test /admin"}},
		"on another path":                  {place{path: "/admin/"}, "same-origin", []string{" /", "app.example.test /", "example.test /", " /admin", "app.example.test /admin", "example.test /admin"}},
		"on a domain in another spelling":  {place{domain: "exämple.test", path: "/"}, "same-origin", nil},
		"on the host, from another site":   {place{path: "/"}, "cross-site", nil},
		"on the host, from somewhere":      {place{path: "/"}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "http://App.example.test/admin", http.NoBody)
			r.Header.Set("Sec-Fetch-Site", c.site)
			var got []string
			for _, p := range elsewhere(r, c.at, false) {
				if p.domain != "test" { // no browser has a cookie there
					got = append(got, p.domain+" "+p.path)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestANewSessionIsNotClearedWhereItsPlaceCannotBeWritten has hosts and paths that
// net/http leaves out of a Set-Cookie field: without them it is that of the new one.
func TestANewSessionIsNotClearedWhereItsPlaceCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"http://app.feature_x.example.test/auth/callback/github", "http://app.test/;", "http://app.test/;/x", "http://app.-x.test/",
	} {
		a := newResponder(t, Answers{})
		r := httptest.NewRequest(http.MethodGet, target, http.NoBody)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		h := http.Header{"Set-Cookie": {"s=new; Path=/"}}
		a.Clear(h, r, Ended{Names: []string{"s"}}, func(string) bool { return true })
		for _, line := range h["Set-Cookie"][1:] {
			if cookie, err := http.ParseSetCookie(line); err != nil || cookie.Domain == "" && cookie.Path == "/" {
				t.Errorf("%s: %s", target, line)
			}
		}
	}
}

func TestWherePlacesAreRemembered(t *testing.T) {
	a := newResponder(t, Answers{})
	r := httptest.NewRequest(http.MethodGet, "http://app.test:8080/", http.NoBody)
	keeps := func(mark string, fields ...string) {
		a.Keeps(r, http.Header{"Set-Cookie": fields}, []string{"s"}, mark)
	}
	keeps("once", "s=x; Path=/; Domain=.Example.com", "t=y; Path=/admin", "s=; Path=/b", "s=gone; Path=/c; Max-Age=0")
	keeps("again", "s=x; Path=/")
	keeps("again", "s=x; Path=/")
	keeps("elsewhere", "s=x; Path=/")
	keeps("elsewhere", "s=x; Path=/admin")
	keeps("elsewhere", "s=x; Path=/")
	keeps("twice", "s=x; Path=/", "s=x; Path=/admin")
	keeps("no path", "s=x")
	keeps("too long", "s=x; Path=/"+strings.Repeat("a", maxPlaceBytes))
	for mark, want := range map[string]place{
		"once": {domain: "example.com", path: "/"}, "again": {path: "/"}, "elsewhere": {}, "twice": {}, "no path": {}, "too long": {}, "never": {}, "": {},
	} {
		if at, known := a.kept.find("app.test " + mark); at != want || known != (want != place{}) {
			t.Errorf("%s: %v %t, want %v", mark, at, known, want)
		}
	}
	for i := range 2 * maxKept {
		keeps(fmt.Sprint(i), "s=x; Path=/")
	}
	if _, known := a.kept.find("app.test once"); known || len(a.kept.at) != maxKept || len(a.kept.ring) != maxKept {
		t.Errorf("%d are remembered", len(a.kept.at))
	}
}

func TestAllowedOriginsAreBounded(t *testing.T) {
	a := newResponder(t, Answers{})
	for i := range 2 * maxAllowed {
		origin := fmt.Sprintf("https://%d.example", i)
		r := httptest.NewRequest(http.MethodGet, "http://app.test/x", http.NoBody)
		r.Header.Set("Origin", origin)
		h := http.Header{"Access-Control-Allow-Origin": {origin}, "Access-Control-Allow-Credentials": {"true"}}
		a.Allows(r, h, http.StatusOK)
		a.Allows(r, h, http.StatusOK)
		r.URL.Path = "/" + strings.Repeat("x", maxAllowedBytes)
		a.Allows(r, h, http.StatusOK)
	}
	if len(a.allowed.has) != maxAllowed || len(a.allowed.ring) != maxAllowed {
		t.Errorf("%d are remembered", len(a.allowed.has))
	}
}

// TestAnAllowedOriginHoldsNoRequest has a path that is a part of a long request line.
func TestAnAllowedOriginHoldsNoRequest(t *testing.T) {
	t.Parallel()
	a := newResponder(t, Answers{})
	const origin = "https://page.example"
	r := httptest.NewRequest(http.MethodGet, "http://app.test/x?"+strings.Repeat("x", 1<<16), http.NoBody)
	r.Header.Set("Origin", origin)
	a.Allows(r, http.Header{"Access-Control-Allow-Origin": {origin}, "Access-Control-Allow-Credentials": {"true"}}, http.StatusOK)
	if len(a.allowed.has) != 1 {
		t.Fatalf("%d are remembered", len(a.allowed.has))
	}
	for of := range a.allowed.has {
		if unsafe.StringData(of.path) == unsafe.StringData(r.URL.Path) || unsafe.StringData(of.host) == unsafe.StringData(r.Host) {
			t.Error("the whole request line is kept in memory")
		}
	}
}

func TestVaryIsNotDoubled(t *testing.T) {
	for field, want := range map[string][]string{
		"":               {"Cookie"},
		"Accept":         {"Accept", "Cookie"},
		"accept, cookie": {"accept, cookie"},
		"*":              {"*"},
	} {
		h := http.Header{}
		if field != "" {
			h.Set("Vary", field)
		}
		vary(h, "Cookie")
		if !slices.Equal(h["Vary"], want) {
			t.Errorf("%q becomes %q, want %q", field, h["Vary"], want)
		}
	}
}
