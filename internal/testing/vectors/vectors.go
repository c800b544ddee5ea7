// Package vectors reads pinned session cookies of the real libraries, for tests.
package vectors

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Vector is the session of a library.
type Vector struct {
	// ID names it.
	ID string
	// Secret is the secret of the app that reads it.
	Secret string
	// Secrets are several, if it has several: a list, or an object by id.
	Secrets any
	// JWKS is the key set of the app, if it has one.
	JWKS json.RawMessage
	// Cookies are the names and values, as they stand in a Cookie field.
	Cookies [][2]string
	// Path is where the subject stands.
	Path string
	// Subject is whom the app reads.
	Subject string
	// Expect is "claims" if the subject can be read, else "nothing".
	Expect string
}

// Read reads the vectors of a file.
func Read(t testing.TB, path string) []Vector {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []Vector
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// Keys returns the secrets.
func (v *Vector) Keys() []string {
	var keys []string
	switch secrets := v.Secrets.(type) {
	case []any:
		for _, secret := range secrets {
			keys = append(keys, secret.(string))
		}
	case map[string]any:
		for _, secret := range secrets {
			if text, ok := secret.(string); ok {
				keys = append(keys, text)
			}
		}
	default:
		if v.Secret != "" {
			keys = append(keys, v.Secret)
		}
	}
	slices.Sort(keys)
	return keys
}

// Header returns the header of a request with the cookies.
func (v *Vector) Header() http.Header {
	var pairs []string
	for _, cookie := range v.Cookies {
		pairs = append(pairs, cookie[0]+"="+cookie[1])
	}
	return http.Header{"Cookie": {strings.Join(pairs, "; ")}}
}

// Text returns the values of the cookies, decoded and joined in their order.
func (v *Vector) Text() string {
	var text strings.Builder
	for _, cookie := range v.Cookies {
		value, err := url.PathUnescape(cookie[1])
		if err != nil {
			value = cookie[1]
		}
		if !announcement.MatchString(value) {
			text.WriteString(value)
		}
	}
	return text.String()
}

// announcement says how many chunks of h3 2 follow.
var announcement = regexp.MustCompile(`^__chunked__\d+$`)

// Find returns the string or number at a path of a payload, as text; empty if there is
// none.
func Find(payload map[string]any, path string) string {
	var value any = payload
	for key := range strings.SplitSeq(path, ".") {
		object, _ := value.(map[string]any)
		value = object[key]
	}
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}
