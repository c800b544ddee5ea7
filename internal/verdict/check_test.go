package verdict

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

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

// TestACookieInWhichSomeParserReadsALiveTokenIsNotCleared has a live and a stale token
// in cookies of one name.
func TestACookieInWhichSomeParserReadsALiveTokenIsNotCleared(t *testing.T) {
	const secret = "a secret of 32 bytes, more or less"
	sign := func(subject string) string {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": subject}).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	reader, err := session.New(session.Config{Secrets: []string{secret}, CookieNames: []string{"session"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	live, stale := sign("live"), sign("stale")
	judge := func(tokens []session.Token) []Judgement {
		var all []Judgement
		for i := range tokens {
			all = append(all, map[string]Judgement{"live": {Verdict: Live}, "stale": {Verdict: Stale, Reason: UserNotFound}}[string(tokens[i].Claims.Subject)])
		}
		return all
	}
	for how, line := range map[string]string{
		"in one cookie, as Rack 1 separates them":  "session=" + live + ", session=" + stale + "; session=" + stale,
		"the live one is read from another before": "\u00a0session=" + live + "; session=" + stale + `; session=j:"` + stale + `" session=` + live,
		"the live one has another name too":        "session=" + live + "; \u00a0session=" + stale + "; \u00a0session=" + live + " ",
	} {
		header := http.Header{"Cookie": {line}}
		var s session.Session
		reader.Read(header, &s)
		check := Whole(&s, judge(s.Tokens))
		whole := check.Ended
		Separate(reader, header, judge(s.Tokens), &check, reader.Read, judge)
		if len(s.Tokens) < 2 || len(check.Ended)+len(whole) > 0 {
			t.Errorf("%s: of %d tokens, ended %q, at first %q", how, len(s.Tokens), check.Ended, whole)
		}
	}
}

// TestWhatIsLeftUnreadReachesNoApp has cookies that are joined to forged tokens once a
// stale one is removed: to too many to be verified before the last cookies are read,
// which hold another stale token.
func TestWhatIsLeftUnreadReachesNoApp(t *testing.T) {
	t.Parallel()
	const secret = "a secret of 32 bytes, more or less"
	stale, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "stale"}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := session.New(session.Config{Secrets: []string{secret}, CookieNames: []string{"a", "b", "c", "d", "e", "z"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	head := stale[:strings.LastIndexByte(stale, '.')+1]
	var line string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		line += fmt.Sprintf("%[1]s=%[2]s; %[1]s.0=%[3]s; %[1]s.1=%[1]s111; %[1]s.1=%[1]s222; ", name, stale, head)
	}
	line += fmt.Sprintf("z=%s; z.0=%s; z.1=%s", stale, head, stale[len(head):])
	judge := func(tokens []session.Token) []Judgement {
		return slices.Repeat([]Judgement{{Verdict: Stale, Reason: UserNotFound}}, len(tokens))
	}
	header := http.Header{"Cookie": {line}}
	var s session.Session
	if reader.Read(header, &s); s.TooLarge || len(s.Tokens) == 0 {
		t.Fatalf("%d tokens, too large %t", len(s.Tokens), s.TooLarge)
	}
	judgements := judge(s.Tokens)
	check := Whole(&s, judgements)
	if rest := Separate(reader, header, judgements, &check, reader.Read, judge); len(rest) > 0 || check.Verdict != Stale || !check.Strip {
		t.Errorf("%s, strip %t, left %q", check.Verdict, check.Strip, rest)
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

// TestADoubtfulSessionEndsNothing is about a stale session beside which the app may
// take somebody else for the user.
func TestADoubtfulSessionEndsNothing(t *testing.T) {
	t.Parallel()
	live, stale := Judgement{Verdict: Live}, Judgement{Verdict: Stale, Reason: UserNotFound}
	for name, c := range map[string]struct {
		tokens  []Judgement // the first is doubtful
		verdict Verdict
		strip   bool
	}{
		"alone":                {[]Judgement{stale}, Anonymous, true},
		"beside a stale one":   {[]Judgement{stale, stale}, Anonymous, true},
		"beside a live one":    {[]Judgement{stale, live}, Anonymous, true},
		"live":                 {[]Judgement{live}, Live, false},
		"live, beside a stale": {[]Judgement{live, stale}, Anonymous, true},
	} {
		s := session.Session{Tokens: make([]session.Token, len(c.tokens))}
		s.Tokens[0].Claims.Doubtful = true
		if got := Whole(&s, c.tokens); got.Verdict != c.verdict || got.Strip != c.strip || c.strip && got.Dissent == nil {
			t.Errorf("%s: %s, strip %t, dissent %v", name, got.Verdict, got.Strip, got.Dissent)
		}
	}
}
