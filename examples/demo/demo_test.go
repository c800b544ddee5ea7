package main

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/ports"
)

// visitor keeps cookies and follows redirects, like a browser.
type visitor struct {
	t         *testing.T
	base      string
	client    *http.Client
	redirects []string
}

func newVisitor(t *testing.T, base string) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t, base: base}
	v.client = &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		v.redirects = append(v.redirects, r.URL.RequestURI())
		return nil
	}}
	return v
}

func (v *visitor) do(method, path, mode, contentType string, body io.Reader) (int, string) {
	v.t.Helper()
	v.redirects = nil
	request, err := http.NewRequestWithContext(v.t.Context(), method, v.base+path, body)
	if err != nil {
		v.t.Fatal(err)
	}
	request.Header.Set("Sec-Fetch-Mode", mode)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := v.client.Do(request)
	if err != nil {
		v.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func (v *visitor) open(path string) (int, string) {
	v.t.Helper()
	return v.do(http.MethodGet, path, "navigate", "", nil)
}

func (v *visitor) submit(path string, fields url.Values) (int, string) {
	v.t.Helper()
	return v.do(http.MethodPost, path, "navigate", "application/x-www-form-urlencoded", strings.NewReader(fields.Encode()))
}

func (v *visitor) upload() (int, string) {
	v.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "picture.png")
	if err != nil {
		v.t.Fatal(err)
	}
	if _, err := part.Write([]byte("a picture")); err != nil {
		v.t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		v.t.Fatal(err)
	}
	return v.do(http.MethodPost, "/api/upload", "cors", form.FormDataContentType(), &body)
}

func (v *visitor) signedIn() bool {
	u, _ := url.Parse(v.base)
	for _, cookie := range v.client.Jar.Cookies(u) {
		if cookie.Name == cookieName {
			return true
		}
	}
	return false
}

func (v *visitor) violations() int {
	v.t.Helper()
	_, text := v.do(http.MethodGet, "/stats", "cors", "", nil)
	var stats struct{ ForeignKeyViolations int }
	if err := json.Unmarshal([]byte(text), &stats); err != nil {
		v.t.Fatal(err)
	}
	return stats.ForeignKeyViolations
}

// begin starts the demo and signs a visitor in, who uses all of it.
func begin(t *testing.T, module bool) *visitor {
	t.Helper()
	port, err := ports.Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := start(t.Context(), module, strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	v := newVisitor(t, d.url)
	if status, text := v.open("/admin?tab=1"); status != 200 || !strings.Contains(text, "Who are you?") {
		t.Fatalf("the sign-in page: %d %s", status, text)
	}
	v.use("ada@example.com", "/admin")
	return v
}

// use signs in, and uses the admin area.
func (v *visitor) use(email, callback string) {
	v.t.Helper()
	if status, text := v.submit("/api/auth/callback/credentials", url.Values{"email": {email}, "callbackUrl": {callback}}); status != 200 || !strings.Contains(text, "Upload media") {
		v.t.Fatalf("signing in: %d %s", status, text)
	}
	if status, text := v.upload(); status != 200 {
		v.t.Fatalf("uploading: %d %s", status, text)
	}
	if status, text := v.submit("/api/site-customization", url.Values{"title": {"x"}}); status != 200 || !strings.Contains(text, "saved") {
		v.t.Fatalf("customizing: %d %s", status, text)
	}
}

// reseed has somebody else press the button: a page that comes after it could already
// end the session.
func (v *visitor) reseed() {
	v.t.Helper()
	if status, text := newVisitor(v.t, v.base).submit("/reseed", nil); status != 200 || !strings.Contains(text, "reseeded") {
		v.t.Fatalf("reseeding: %d %s", status, text)
	}
}

// reseedAndNotice presses the button and waits until Caddy notices. It asks with
// the old cookie, which stays in the browser.
func (v *visitor) reseedAndNotice() {
	v.t.Helper()
	v.reseed()
	u, err := url.Parse(v.base)
	if err != nil {
		v.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // between two polls
		other := newVisitor(v.t, v.base)
		other.client.Jar.SetCookies(u, v.client.Jar.Cookies(u))
		if _, text := other.do(http.MethodGet, "/api/auth/session", "cors", "", nil); strings.TrimSpace(text) == "{}" {
			return
		}
		if time.Now().After(deadline) {
			v.t.Fatal("the reseed is not noticed")
		}
	}
}

func TestWithTheModuleAReseedEndsSessions(t *testing.T) {
	v := begin(t, true)

	v.reseedAndNotice()
	status, text := v.open("/admin?tab=1")
	if status != 200 || !strings.Contains(text, "Please sign in to access this page.") || !strings.Contains(text, `value="/admin?tab=1"`) {
		t.Errorf("the admin area: %d %s", status, text)
	}
	if len(v.redirects) != 1 || v.signedIn() {
		t.Errorf("redirects %q, still signed in: %t", v.redirects, v.signedIn())
	}
	v.use("ada@example.com", "/admin?tab=1")

	v.reseedAndNotice()
	if status, text := v.upload(); status != http.StatusUnauthorized || !strings.Contains(text, `"error":"stale_session"`) || v.signedIn() {
		t.Errorf("an upload: %d %s", status, text)
	}
	v.use("grace@example.com", "/admin")

	v.reseedAndNotice()
	if status, text := v.submit("/api/site-customization", url.Values{"title": {"x"}}); status != 200 || !strings.Contains(text, "Please sign in") || len(v.redirects) != 1 {
		t.Errorf("a form: %d %s by %q", status, text, v.redirects)
	}
	v.use("ada@example.com", "/admin")

	v.reseedAndNotice()
	if status, text := v.do(http.MethodGet, "/api/auth/session", "cors", "", nil); status != 200 || strings.TrimSpace(text) != "{}" || v.signedIn() {
		t.Errorf("the session: %d %s", status, text)
	}
	v.use("ada@example.com", "/admin")

	if got := v.violations(); got != 0 {
		t.Errorf("%d foreign-key violations", got)
	}
	if status, text := v.do(http.MethodPost, "/api/auth/clear-session", "cors", "", nil); status != 200 || text != `{"success":true,"message":"Session cleared successfully"}` || v.signedIn() {
		t.Errorf("clearing: %d %s", status, text)
	}
}

func TestWithoutTheModuleAReseedLeadsTo500s(t *testing.T) {
	v := begin(t, false)
	v.reseed()
	if status, text := v.open("/admin"); status != 200 || !strings.Contains(text, "Upload media") {
		t.Errorf("the admin area looks as if: %d %s", status, text)
	}
	if status, _ := v.upload(); status != 500 {
		t.Errorf("an upload: %d", status)
	}
	if status, _ := v.submit("/api/site-customization", url.Values{"title": {"x"}}); status != 500 {
		t.Errorf("a form: %d", status)
	}
	if _, text := v.do(http.MethodGet, "/api/auth/session", "cors", "", nil); !strings.Contains(text, "ada@example.com") {
		t.Errorf("the session: %s", text)
	}
	if got := v.violations(); got != 2 {
		t.Errorf("%d foreign-key violations, want 2", got)
	}
}
