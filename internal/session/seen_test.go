package session

import (
	"net/http"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

// set is the header of a response that sets a session.
func set(token string) http.Header {
	return http.Header{"Set-Cookie": {v4Name + "=" + token + "; Path=/"}}
}

func TestWhenATokenWasSeenFirstIsRemembered(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(time.Second) // after the reader was made
	rd := newReader(t, Config{Now: func() time.Time { return now }})
	first := v4(t, "ada")
	begin := now
	asked := read(rd, http.Header{"Cookie": {v4Name + "=" + first}})
	renewedToken, otherToken, signedIn := v4(t, "ada"), v4(t, "bob"), v4(t, "ada")
	for _, c := range []struct {
		what  string
		read  func(*Session)
		first bool
		since time.Duration // the beginning
	}{
		{"the token again", func(s *Session) { rd.Read(http.Header{"Cookie": {v4Name + "=" + first}}, s) }, false, 0},
		{"one that renews it", func(s *Session) { rd.ReadResponse(set(renewedToken), asked.Tokens, s) }, true, 0},
		{"the one that was renewed", func(s *Session) { rd.Read(http.Header{"Cookie": {v4Name + "=" + renewedToken}}, s) }, false, 0},
		{"one of somebody else in a response", func(s *Session) { rd.ReadResponse(set(otherToken), asked.Tokens, s) }, true, 4 * time.Second},
		{"one of a sign-in", func(s *Session) { rd.ReadResponse(set(signedIn), nil, s) }, true, 5 * time.Second},
		{"the same, in a response that renews", func(s *Session) { rd.ReadResponse(set(signedIn), asked.Tokens, s) }, false, 5 * time.Second},
	} {
		now = now.Add(time.Second)
		s := new(Session)
		c.read(s)
		if len(s.Tokens) != 1 {
			t.Fatalf("%s: read %+v", c.what, s)
		}
		got := s.Tokens[0].Claims
		if off := got.SeenAt.Sub(begin.Add(c.since)); off < -time.Microsecond || off > time.Microsecond || got.First != c.first {
			t.Errorf("%s: seen %s after the beginning, for the first time: %t", c.what, got.SeenAt.Sub(begin), got.First)
		}
	}
}

func TestATimeOfSignInIsOneThatLasts(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1795000000123)
	for name, c := range map[string]struct {
		claim   string
		payload map[string]any
		lasting bool
	}{
		"in milliseconds":   {"loginAt", map[string]any{"sub": "1", "loginAt": at.UnixMilli()}, true},
		"as text":           {"user.since", map[string]any{"sub": "1", "user": map[string]any{"since": at.Format(time.RFC3339Nano)}}, true},
		"missing":           {"loginAt", map[string]any{"sub": "1"}, false},
		"not a time":        {"loginAt", map[string]any{"sub": "1", "loginAt": "yesterday"}, false},
		"iat":               {"iat", map[string]any{"sub": "1"}, false},
		"iat, by default":   {"", map[string]any{"sub": "1"}, false},
		"the same as in it": {"loginAt", map[string]any{"sub": "1", "iat": at.Unix(), "loginAt": at.Unix()}, true},
	} {
		rd := newReader(t, Config{IssuedAt: c.claim})
		token, err := mint.V4(secret, c.payload)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time from the cache
			s := read(rd, http.Header{"Cookie": {v4Name + "=" + token}})
			if len(s.Tokens) != 1 || s.Tokens[0].Claims.Lasting != c.lasting {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
}
