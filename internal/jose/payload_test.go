package jose

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

func TestPayloadsThatAreNestedTooDeep(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n) }
	v := newVerifier(t, VerifierConfig{Secrets: []string{secret}})
	d, encrypt := newKeys(t)
	for n, want := range map[int]bool{1: true, maxDepth: true, maxDepth + 1: false, 100000: false} {
		payload := deep(n)
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(text))
		if _, err := v.Verify(text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))); (err == nil) != want {
			t.Errorf("depth %d, signed: %v", n, err)
		}
		if _, err := d.Decrypt(v4Name, encrypt[v4Name]([]byte(payload))); (err == nil) != want {
			t.Errorf("depth %d, encrypted: %v", n, err)
		}
	}
	if tooDeep([]byte(`{"a":"{{{{{{{{{{{{{{{{{{{{{{{{[[[[\"{{{{{{{{{{{{{"}`)) {
		t.Error("braces in a text count")
	}
}

func FuzzPayload(f *testing.F) {
	for _, payload := range []string{`{"sub":"ada","a":[1,{"b":null}]}`, ` {} `, `{}{}`, `[]`, `null`, `{"a":"\"{"}`, strings.Repeat(`{"a":`, 20)} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		claims, err := ParsePayload(payload)
		object := json.Valid(payload) && bytes.HasPrefix(bytes.TrimLeft(payload, " \t\r\n"), []byte("{")) && !tooDeep(payload)
		if (err == nil) != object || (claims != nil) != object {
			t.Errorf("%q: %v, %v", payload, claims, err)
		}
	})
}
