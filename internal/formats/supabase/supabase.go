// Package supabase reads the sessions of Supabase Auth, as @supabase/ssr keeps them in
// cookies.
package supabase

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
)

// prefix is in front of values that are base64url. Others are JSON.
const prefix = "base64-"

// cookies are the names of the session cookies, without the numbers of chunks. The name
// of a PKCE cookie begins like one, and is none.
var cookies = regexp.MustCompile(`^sb-[A-Za-z0-9_-]{1,64}-auth-token$`)

// IsCookie reports whether a cookie with the name holds a session, given the name
// without the number of a chunk.
func IsCookie(name string) bool { return cookies.MatchString(name) }

// Session holds what the value of a session cookie says. Only its access token is
// signed.
type Session struct {
	// AccessToken is a signed token, whose subject is the id of the user.
	AccessToken string
	// CanRefresh reports whether there is a token to refresh the session with, so that
	// it lives on after AccessToken has expired.
	CanRefresh bool
}

// Parse parses the value of a session cookie, joined and decoded from percent-encoding.
// It is not ok if that holds no access token.
func Parse(value string) (s Session, ok bool) {
	text := []byte(value)
	if encoded, ok := strings.CutPrefix(value, prefix); ok {
		var err error
		encoded = ignored.Replace(encoded)
		if len(encoded)%4 == 1 { // the last character is no byte, which is ignored too
			encoded = encoded[:len(encoded)-1]
		}
		if text, err = base64.RawURLEncoding.DecodeString(encoded); err != nil {
			return Session{}, false
		}
	} else if !isJSON(value) {
		return Session{}, false
	}
	var fields map[string]json.RawMessage // a struct would take names in any case
	if err := json.Unmarshal(text, &fields); err != nil {
		return Session{}, false
	}
	var refresh string
	_ = json.Unmarshal(fields["refresh_token"], &refresh) // none, if it is no text
	if json.Unmarshal(fields["access_token"], &s.AccessToken) != nil || s.AccessToken == "" {
		return Session{}, false
	}
	s.CanRefresh = refresh != ""
	return s, true
}

// isJSON reports whether a value is JSON, and neither base64url nor a token: what the
// app parses may begin with blanks.
func isJSON(value string) bool { return strings.HasPrefix(strings.TrimLeft(value, " \t\r\n"), "{") }

// ignored removes what @supabase/ssr ignores in base64url.
var ignored = strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "", "=", "")
