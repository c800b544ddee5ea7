package jose

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// forge signs a token with any header.
func forge(header string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"ada"}`))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestHeadersThatAreRefusedUnread(t *testing.T) {
	v := newVerifier(t, VerifierConfig{Secrets: []string{secret}})
	if _, err := v.Verify(forge(`{"alg":"HS256","typ":"JWT","kid":"x"}`)); err != nil {
		t.Fatalf("a good header: %v", err)
	}
	for _, header := range []string{
		`{"alg":"HS256","crit":["exp"]}`, `{"alg":"HS256","zip":"DEF"}`, `{"alg":"HS256","jku":"https://evil.example"}`,
		`{"alg":"HS256","jwk":{}}`, `{"alg":"HS256","x5u":"https://evil.example"}`, `{"alg":"HS256","x5c":["x"]}`, `{"alg":"HS256","b64":false}`,
		`{"alg":"HS256","alg":"none"}`, `{"alg":["HS256"]}`, `{"alg":null}`, `{"alg":"hs256"}`, `{}`, `[]`, `"HS256"`, `null`, ``, `{"alg":"HS256"`,
		`{"alg":"HS256"} {}`, `{"alg":"HS256","typ":"JWE"}`, `{"alg":"HS256","cty":"at+jwt"}`, `{"alg":"HS256","p2c":1}`,
		`{"alg":"HS256","kid":"` + strings.Repeat("x", 2000) + `"}`, strings.Repeat(`{"a":`, 200), `{"alg":"HS256","kid":{}}`,
	} {
		if claims, err := v.Verify(forge(header)); claims != nil || !errors.Is(err, ErrInvalid) {
			t.Errorf("%.80s was read", header)
		}
	}
	d, encrypt := newKeys(t)
	token := encrypt[v4Name]([]byte(`{"sub":"ada"}`))
	if _, err := d.Decrypt(v4Name, token); err != nil {
		t.Fatalf("a good header: %v", err)
	}
	_, rest, _ := strings.Cut(token, ".")
	for _, header := range []string{
		`{"alg":"dir","enc":"A256GCM","zip":"DEF"}`, `{"alg":"dir","enc":"A256GCM","crit":[]}`, `{"alg":"PBES2-HS256+A128KW","enc":"A256GCM"}`,
		`{"alg":"A256KW","enc":"A256GCM"}`, `{"alg":"dir","enc":"A128GCM"}`, `{"alg":"dir","enc":"A256GCM","kid":""}`, `{"alg":"dir","enc":"A256GCM","kid":"x"}`,
		`{"alg":"dir"}`, `{"enc":"A256GCM"}`, `{"alg":"dir","enc":"A256GCM","epk":{}}`,
	} {
		if claims, err := d.Decrypt(v4Name, base64.RawURLEncoding.EncodeToString([]byte(header))+"."+rest); claims != nil || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s was read", header)
		}
	}
}

// RFC 7515, section 4.1.9, and RFC 9068, section 2.1.
func TestATypMayBeAMediaType(t *testing.T) {
	v := newVerifier(t, VerifierConfig{Secrets: []string{secret}, Type: TypeSecurityEvent})
	for typ, want := range map[string]bool{
		"secevent+jwt": true, "SecEvent+JWT": true, "application/secevent+jwt": true, "Application/secevent+jwt": true,
		"text/secevent+jwt": false, "application/": false, "application/application/secevent+jwt": false, "at+jwt": false, "logout+jwt": false,
	} {
		if _, err := v.Verify(forge(`{"alg":"HS256","typ":"` + typ + `"}`)); (err == nil) != want {
			t.Errorf("%s: %v", typ, err)
		}
	}
}
