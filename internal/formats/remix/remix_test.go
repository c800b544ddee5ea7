package remix

import (
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/cookie"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/reads"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/vectors"
)

const secret = "a secret of sessions"

func TestSessionsOfTheRealLibraries(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Read(t, "testdata/vectors.json") {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			keys := v.Keys()
			if len(keys) == 0 { // not signed: whatever the secret is
				keys = []string{secret}
			}
			reads.Check(t, reads.Reader(t, &Remix{cookie.Options{Secrets: keys, Cookies: []string{v.Cookies[0][0]}}}), &v, "")
		})
	}
}

func TestWhatIsVerified(t *testing.T) {
	t.Parallel()
	verifier, err := New([]string{"another secret", secret})
	if err != nil {
		t.Fatal(err)
	}
	signed := vectors.Vector{}
	value, err := mint.Remix(secret, map[string]any{"userId": "ada?>~雪"})
	if err != nil {
		t.Fatal(err)
	}
	signed.Cookies = [][2]string{{"__session", value}}
	text := signed.Text()
	payload, signature, _ := strings.Cut(text, ".")
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"as it was written":                {text, true},
		"with padding, which atob ignores": {text + "=", true},
		"with a blank, which it ignores":   {payload + ". " + signature[:5] + "\n" + signature[5:], true},
		"unsigned":                         {payload, false},
		"without a signature":              {payload + ".", false},
		"with half a signature":            {payload + "." + signature[:20], false},
		"with the signature of another":    {"e30=." + signature, false},
		"in base64url":                     {payload + "." + strings.NewReplacer("+", "-", "/", "_").Replace("+"+signature[1:]), false},
		"with a part more":                 {"x." + text, false},
		"empty":                            {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read, err := verifier.Verify(c.text)
			if (err == nil) != c.want || c.want && read["userId"] != "ada?>~雪" {
				t.Errorf("read %v: %v", read, err)
			}
		})
	}
}

func TestSessionsThatAnybodyCanWriteAreNotJudged(t *testing.T) {
	t.Parallel()
	for _, secrets := range [][]string{nil, {}, {secret, ""}} {
		if _, err := New(secrets); err == nil {
			t.Errorf("%q: no error", secrets)
		}
	}
}

// FuzzVerify verifies mutations of sessions. None may be read without the secret, and
// none names anybody new.
func FuzzVerify(f *testing.F) {
	for _, v := range vectors.Read(f, "testdata/vectors.json") {
		f.Add(v.Text())
	}
	verifier, err := New([]string{"s3cret of the session storage"})
	if err != nil {
		f.Fatal(err)
	}
	without, err := New([]string{secret})
	if err != nil {
		f.Fatal(err)
	}
	subjects := map[string]bool{"": true, "cm4x1y2z30000abcd1234efgh": true}
	f.Fuzz(func(t *testing.T, text string) {
		payload, err := verifier.Verify(text)
		if err == nil && !subjects[vectors.Find(payload, "userId")] {
			t.Errorf("%q names %v, whom no session names", text, payload)
		}
		if _, err := without.Verify(text); err == nil {
			t.Errorf("%q was read without its secret", text)
		}
	})
}
