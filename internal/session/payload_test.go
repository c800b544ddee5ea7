package session

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

func TestClaimsThatTheLibrariesCheck(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) float64 { return float64(now.Add(d).Unix()) }
	for name, c := range map[string]struct {
		claims  map[string]any
		failure Failure
	}{
		"expires in a second":            {map[string]any{"exp": at(time.Second)}, ""},
		"expired 14 seconds ago":         {map[string]any{"exp": at(-14 * time.Second)}, ""},
		"expired 15 seconds ago":         {map[string]any{"exp": at(-15 * time.Second)}, Expired},
		"never expires":                  {map[string]any{"exp": nil}, ""},
		"expires at 0":                   {map[string]any{"exp": 0}, Expired},
		"expires in the farthest future": {map[string]any{"exp": 1e300}, ""},
		"expiry as text":                 {map[string]any{"exp": "4102444800"}, Undecodable},
		"begins in 15 seconds":           {map[string]any{"exp": nil, "nbf": at(15 * time.Second)}, ""},
		"begins in 16 seconds":           {map[string]any{"exp": nil, "nbf": at(16 * time.Second)}, Undecodable},
		"issued in the future":           {map[string]any{"exp": nil, "iat": at(time.Hour)}, ""},
		"issued at no number":            {map[string]any{"exp": nil, "iat": true}, Undecodable},
		"the wrong issuer":               {map[string]any{"exp": nil, "iss": "other"}, Undecodable},
		"one of several audiences":       {map[string]any{"exp": nil, "aud": []string{"x", "me"}}, ""},
		"the wrong audience":             {map[string]any{"exp": nil, "aud": []string{"x"}}, Undecodable},
		"no audience":                    {map[string]any{"exp": nil, "aud": nil}, Undecodable},
	} {
		t.Run(name, func(t *testing.T) {
			claims := map[string]any{"iss": "issuer", "aud": "me"}
			for k, v := range c.claims {
				claims[k] = v
			}
			token, err := mint.V4(secret, claims)
			if err != nil {
				t.Fatal(err)
			}
			rd := newReader(t, Config{Issuer: "issuer", Audience: "me", Now: func() time.Time { return now }})
			if s := read(rd, http.Header{"Cookie": {v4Name + "=" + token}}); s.Failure != c.failure || (len(s.Tokens) == 1) != (c.failure == "") {
				t.Errorf("failure %q, want %q", s.Failure, c.failure)
			}
		})
	}
}

func TestWhatIsTakenFromThePayload(t *testing.T) {
	iat := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	login := iat.Add(-time.Hour)
	for name, c := range map[string]struct {
		claims   map[string]any
		subject  string
		issuedAt time.Time
		match    map[string]string
	}{
		"text, seconds":        {map[string]any{"id": "x", "loginAt": login.Unix()}, "x", login, nil},
		"number, milliseconds": {map[string]any{"id": 7, "loginAt": login.UnixMilli()}, "7", login, nil},
		"RFC 3339":             {map[string]any{"id": -7, "loginAt": login.Format(time.RFC3339)}, "-7", login, nil},
		"no time of sign-in":   {map[string]any{"id": "x"}, "x", iat, nil},
		"fraction as id":       {map[string]any{"id": 1.5}, "", iat, nil},
		"object as id":         {map[string]any{"id": map[string]any{"a": 1}}, "", iat, nil},
		"boolean as id":        {map[string]any{"id": true}, "", iat, nil},
		"claims to match": {
			map[string]any{"id": "x", "email": "a@b.c", "v": 3, "user": map[string]any{"admin": true}, "none": nil, "empty": ""},
			"x", iat,
			map[string]string{"email": "a@b.c", "v": "3", "user.admin": "true", "empty": ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.claims["iat"] = iat.Unix()
			token, err := mint.V4(secret, c.claims)
			if err != nil {
				t.Fatal(err)
			}
			paths := []string{"email", "v", "user.admin", "none", "user", "empty"}
			rd := newReader(t, Config{Subject: "id", IssuedAt: "loginAt", Match: paths})
			for _, how := range []string{"decrypted", "remembered"} {
				s := read(rd, http.Header{"Cookie": {v4Name + "=" + token}})
				if len(s.Tokens) != 1 {
					t.Fatal(s.Failure)
				}
				got := s.Tokens[0].Claims
				if string(got.Subject) != c.subject || !got.IssuedAt.Equal(c.issuedAt) || len(got.Match) != len(paths) {
					t.Errorf("%s: got %+v, want %+v", how, got, c)
				}
				for i, path := range paths {
					want, claimed := c.match[path]
					if string(got.Match[i]) != want || (got.Match[i] != nil) != claimed {
						t.Errorf("%s: %s is %q, want %q", how, path, got.Match[i], want)
					}
				}
			}
		})
	}
}

func FuzzClaimPath(f *testing.F) {
	f.Add(`{"user":{"id":"1"},"a.b":{"c":2}}`, "a.b.c")
	f.Add(`{"":{"":1}}`, "..")
	f.Fuzz(func(t *testing.T, payload, path string) {
		if len(path) > 64 {
			return
		}
		in := json.NewDecoder(strings.NewReader(payload))
		in.UseNumber()
		var claims map[string]any
		if in.Decode(&claims) != nil {
			return
		}
		found := formats.Find(claims, path)
		if direct, ok := claims[path]; ok && !reflect.DeepEqual(found, direct) {
			t.Errorf("%q has %v at %q, found %v", payload, direct, path, found)
		} else if !ok && !strings.Contains(path, ".") && found != nil {
			t.Errorf("%q has nothing at %q, found %v", payload, path, found)
		}
		if id := formats.Subject(claims, path); id != "" && !strings.Contains(payload, id) && !strings.Contains(payload, "\\") && utf8.ValidString(payload) {
			t.Errorf("%q has no %q, found at %q", payload, id, path)
		}
	})
}
