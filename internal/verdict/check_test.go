package verdict

import (
	"reflect"
	"slices"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

func TestWholeOfSeveralTokens(t *testing.T) {
	live := Judgement{Verdict: Live, Subject: []byte("live")}
	stale := Judgement{Verdict: Stale, Reason: UserNotFound, Subject: []byte("stale")}
	unknown := Judgement{Verdict: Unknown, Subject: []byte("unknown")}
	anonymous := Judgement{Verdict: Anonymous}

	for name, c := range map[string]struct {
		tokens  []Judgement
		whole   Judgement
		strip   bool
		dissent bool
		ended   []string // each token stands in a cookie named after its place: "0", "1", …
	}{
		"one live":                  {[]Judgement{live}, live, false, false, nil},
		"one stale":                 {[]Judgement{stale}, stale, true, false, []string{"0"}},
		"one unknown":               {[]Judgement{unknown}, unknown, false, false, nil},
		"two live":                  {[]Judgement{live, live}, live, false, false, nil},
		"all stale":                 {[]Judgement{stale, stale, stale}, stale, true, false, []string{"0", "1", "2"}},
		"live, then stale":          {[]Judgement{live, stale}, anonymous, true, true, []string{"1"}},
		"stale, then live":          {[]Judgement{stale, live}, anonymous, true, true, []string{"0"}},
		"live, then unknown":        {[]Judgement{live, unknown}, unknown, false, false, nil},
		"unknown, then live":        {[]Judgement{unknown, live}, unknown, false, false, nil},
		"stale, then unknown":       {[]Judgement{stale, unknown}, anonymous, true, true, []string{"0"}},
		"unknown, then stale":       {[]Judgement{unknown, stale}, anonymous, true, true, []string{"1"}},
		"live, unknown, then stale": {[]Judgement{live, unknown, stale}, anonymous, true, true, []string{"2"}},
	} {
		t.Run(name, func(t *testing.T) {
			var s session.Session
			for i := range c.tokens {
				names := []string{string(rune('0' + i))}
				s.Names = append(s.Names, names...)
				s.Tokens = append(s.Tokens, session.Token{Names: names})
			}
			got := Whole(&s, c.tokens)
			if !reflect.DeepEqual(got.Judgement, c.whole) || got.Strip != c.strip || (got.Dissent != nil) != c.dissent || !slices.Equal(got.Ended, c.ended) {
				t.Errorf("got %+v strip=%t dissent=%v ended=%q, want %+v", got.Judgement, got.Strip, got.Dissent, got.Ended, c)
			}
		})
	}
}

func TestACookieThatAlsoHoldsALiveTokenIsNotCleared(t *testing.T) {
	s := session.Session{
		Names:  []string{"session", "session-x"},
		Tokens: []session.Token{{Names: []string{"session"}}, {Names: []string{"session", "session-x"}}},
	}
	got := Whole(&s, []Judgement{{Verdict: Live}, {Verdict: Stale, Reason: UserNotFound}})
	if !slices.Equal(got.Ended, []string{"session-x"}) {
		t.Errorf("ended %q", got.Ended)
	}
}

func TestWholeWithoutAToken(t *testing.T) {
	for name, c := range map[string]struct {
		session session.Session
		verdict Verdict
		strip   bool
	}{
		"no session cookie":            {session.Session{}, Anonymous, false},
		"a cookie of something else":   {session.Session{Names: []string{"a"}, Failure: session.Undecodable}, Invalid, false},
		"an expired token":             {session.Session{Names: []string{"a"}, Failure: session.Expired}, Invalid, false},
		"the key set is not there yet": {session.Session{Names: []string{"a"}, Failure: session.KeysUnavailable}, Unknown, false},
		"cookies too large to look at": {session.Session{Names: []string{"a"}, Failure: session.TooLarge, TooLarge: true}, Invalid, true},
	} {
		t.Run(name, func(t *testing.T) {
			got := Whole(&c.session, nil)
			if got.Verdict != c.verdict || got.Strip != c.strip || got.Ended != nil {
				t.Errorf("got %s strip=%t ended=%q, want %s strip=%t", got.Verdict, got.Strip, got.Ended, c.verdict, c.strip)
			}
		})
	}
}
