package iron

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/cookie"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/reads"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/vectors"
)

const password = "a password of seals, which has at least 32 characters"

// onPurpose are the vectors that are read in another way than by the library, and why.
var onPurpose = map[string]string{
	"iron8-no-version": "opened: iron-session 9 reads the same seal, and nobody can tell which of the two the app has; version 8 reads nobody from it",
	"iron8-split":      "not opened: no library but iron-webcrypto itself has a password for each of the two keys",
}

func open(t *testing.T, passwords []string, text string) (map[string]any, time.Time, error) {
	t.Helper()
	o, err := New(passwords, true)
	if err != nil {
		t.Fatal(err)
	}
	return o.Open(text)
}

func TestSealsOfTheRealLibraries(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Read(t, "testdata/vectors.json") {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			options := cookie.Options{Secrets: v.Keys()}
			if len(options.Secrets) == 0 { // iron8-split
				options.Secrets = []string{password}
			}
			if v.Path != "data.user.id" && v.Path != "data.userId" && v.Path != "userId" && v.Path != "user.id" { // which need not be configured
				options.Subject = v.Path
			}
			var module caddy.Module
			name := strings.TrimRight(v.Cookies[0][0], ".0123456789")
			if strings.HasPrefix(v.ID, "h3") || strings.HasPrefix(v.ID, "nuxt") {
				options.Cookies = []string{v.Cookies[0][0]}
				module = &H3{Options: options, Version2: strings.HasPrefix(v.ID, "h3-2")}
			} else {
				options.Cookies = []string{name}
				module = &Session{Options: options}
			}
			reads.Check(t, reads.Reader(t, module), &v, onPurpose[v.ID])
		})
	}
}

func TestWhatIsOpened(t *testing.T) {
	t.Parallel()
	seal := func(s mint.Seal) string {
		text, err := s.Of(map[string]any{"userId": "ada"})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	at := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	for name, c := range map[string]struct {
		seal    mint.Seal
		change  func(string) string
		opened  bool
		expires time.Time
	}{
		"with the password":                    {seal: mint.Seal{Password: password, ID: "1"}, opened: true},
		"that ends, and the minute after that": {seal: mint.Seal{Password: password, Expires: at}, opened: true, expires: at.Add(time.Minute)},
		"of h3 2":                              {seal: mint.Seal{Password: password, Iterations: Slow}, opened: true},
		"with a version behind it":             {seal: mint.Seal{Password: password, ID: "1"}, change: func(s string) string { return s + "~2" }, opened: true},
		"with a blank in its MAC":              {seal: mint.Seal{Password: password}, change: func(s string) string { return s[:len(s)-9] + " " + s[len(s)-9:] }, opened: true},
		"with another password":                {seal: mint.Seal{Password: strings.ToUpper(password)}},
		"with keys that are hashed otherwise":  {seal: mint.Seal{Password: password, Iterations: 2}},
		"without its last character":           {seal: mint.Seal{Password: password}, change: func(s string) string { return s[:len(s)-1] }},
		"with another prefix":                  {seal: mint.Seal{Password: password}, change: func(s string) string { return "Fe26.1" + s[6:] }},
		"with a field more":                    {seal: mint.Seal{Password: password}, change: func(s string) string { return s + "*" }},
		"that is to end later":                 {seal: mint.Seal{Password: password, Expires: time.UnixMilli(1e12)}, change: func(s string) string { return strings.Replace(s, "*1000000000000*", "*9000000000000*", 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := seal(c.seal)
			if c.change != nil {
				text = c.change(text)
			}
			payload, expires, err := open(t, []string{"another password, of more than 32 characters", password}, text)
			if (err == nil) != c.opened || c.opened && payload["userId"] != "ada" {
				t.Fatalf("opened %v: %v", payload, err)
			}
			if !expires.Equal(c.expires) {
				t.Errorf("expires %v, want %v", expires, c.expires)
			}
		})
	}
}

// TestACookieWithoutAConfiguredNameIsReadInEverySpelling has a seal that the app's parser
// of cookies decodes.
func TestACookieWithoutAConfiguredNameIsReadInEverySpelling(t *testing.T) {
	t.Parallel()
	reader := reads.Reader(t, &Session{Options: cookie.Options{Secrets: []string{password}}})
	seal, err := mint.Seal{Password: password, ID: "1"}.Of(map[string]any{"userId": "ada"})
	if err != nil {
		t.Fatal(err)
	}
	seal += "~2"
	for name, value := range map[string]string{
		"as it is written":         "=" + seal,
		"behind a blank":           "= " + seal,
		"in quotes":                `="` + seal + `"`,
		"with its first escape":    "=%46" + seal[1:],
		"with its last escape":     "=Fe26.2%2A" + seal[7:],
		"in chunks":                ".0=" + seal[:100] + "; app-session.1=" + seal[100:],
		"in chunks, a letter each": ".0=F; app-session.3=" + seal[3:] + "; app-session.1=e; app-session.2=2",
	} {
		header := http.Header{"Cookie": {"a=1; app-session" + value + "; b=2"}}
		if got := reads.Subjects(reader, header); !slices.Equal(got, []string{"ada"}) {
			t.Errorf("%s: read %q", name, got)
		}
	}
}

func TestASealHasOneSpelling(t *testing.T) {
	t.Parallel()
	text, err := mint.Seal{Password: password}.Of(map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	at := len(text) - 9
	for _, spelling := range []string{text, text + "~", text + "~3", text + "~2~2x", text + "=", text[:at] + " " + text[at:], text[:at] + "\n~" + text[at:]} {
		want := text
		if strings.Contains(spelling, "\n~") { // half a MAC
			want = spelling
		}
		if got := strings.TrimSuffix(Canonical(spelling), "~2"); got != want {
			t.Errorf("%q is %q", spelling, got)
		}
	}
	if got := Canonical(text + "~2"); got != text+"~2" {
		t.Errorf("that of iron-session is %q", got)
	}
}

// TestASlowSealIsOpenedOnlyIfItIsAskedFor shows that other apps have no forged seal
// hashed thousands of times.
func TestASlowSealIsOpenedOnlyIfItIsAskedFor(t *testing.T) {
	t.Parallel()
	text, err := mint.Seal{Password: password, Iterations: Slow}.Of(map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := New([]string{password}, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.Open(text); err == nil {
		t.Error("opened")
	}
}

func TestHowManyChunksACookieAnnounces(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"3": 3, "03": 3, " 3": 3, "\t\ufeff+3": 3, "3x": 3, "3.9": 3, "1e1": 1, "0x3": 3, "0Xag": 10, "": 0, "-3": 0, "x": 0, "+": 0, "0x": 0, "99999999999": 0, " + 3": 0,
	} {
		if got := parseInt(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestAPasswordThatTheLibrariesRefuse(t *testing.T) {
	t.Parallel()
	const short = "thirty-one characters are short"
	_, err := New([]string{password, short}, false)
	if err == nil || strings.Contains(err.Error(), short) {
		t.Errorf("error %v", err)
	}
	if _, err := New([]string{"a password of sixteen 雪雪雪雪雪雪雪雪雪雪"}, false); err != nil {
		t.Error(err)
	}
}

// FuzzOpen opens mutations of seals. None may be opened without the password, and what
// is opened was sealed.
func FuzzOpen(f *testing.F) {
	for _, v := range vectors.Read(f, "testdata/vectors.json") {
		if text := v.Text(); len(text) < 2000 {
			f.Add(text)
		}
	}
	const vector = "vector password of iron seals, at least 32 characters"
	o, err := New([]string{vector}, false)
	if err != nil {
		f.Fatal(err)
	}
	without, err := New([]string{password}, false)
	if err != nil {
		f.Fatal(err)
	}
	subjects := map[string]bool{"": true, "7f9d1a52-2a8e-4b9e-9c34-5d1b6f0c8e11": true}
	f.Fuzz(func(t *testing.T, text string) {
		payload, _, err := o.Open(text)
		if err == nil && !subjects[vectors.Find(payload, "userId")] {
			t.Errorf("%q names %v, whom no seal names", text, payload)
		}
		if _, _, err := without.Open(text); err == nil {
			t.Errorf("%q was opened without its password", text)
		}
	})
}
