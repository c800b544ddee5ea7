package session

import (
	"fmt"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
)

// TestASubjectThatIsAGuess shows that it is one each time that it is read.
func TestASubjectThatIsAGuess(t *testing.T) {
	t.Parallel()
	rd, err := New(Config{Formats: []formats.Format{new(plain), new(plain)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	for range 2 { // from the cache, too
		if tokens := readPlain(rd, "id=guessed:ada", "").Tokens; len(tokens) != 2 || !tokens[0].Claims.Guessed || readPlain(rd, "id=valid:ada", "").Tokens[0].Claims.Guessed {
			t.Fatalf("%+v", tokens)
		}
	}
}

// TestWhatProvesThatAUserIsGone has users of Auth.js and of two other libraries found.
func TestWhatProvesThatAUserIsGone(t *testing.T) {
	t.Parallel()
	rd, err := New(Config{Formats: []formats.Format{new(plain), new(plain)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	const authJS, one, other = 0, 1, 2
	for name, c := range map[string]struct {
		found   []int
		of      int
		guessed bool
		want    bool
	}{
		"nobody was found":                                {nil, one, false, true},
		"nobody was found, by a guess":                    {nil, one, true, false},
		"somebody of the same library was":                {[]int{one}, one, false, true},
		"somebody was, by the same guess":                 {[]int{one}, one, true, true},
		"somebody of another library was":                 {[]int{other}, one, false, false},
		"somebody of another library was, by a guess":     {[]int{other}, one, true, false},
		"somebody of each was":                            {[]int{other, one}, one, true, true},
		"somebody of Auth.js was":                         {[]int{authJS}, one, false, false},
		"somebody of Auth.js was, as was this":            {[]int{authJS}, authJS, false, true},
		"somebody of another library than Auth.js was":    {[]int{one}, authJS, false, false},
		"somebody of Auth.js was, and of another library": {[]int{one, authJS}, authJS, false, true},
	} {
		evidence := rd.Evidence(NewFindings())
		for _, library := range c.found {
			evidence.Found(&Token{format: library})
			evidence.Found(&Token{format: library, Claims: Claims{Subject: []byte("ada"), Guessed: true}})
		}
		if got := evidence.Proves(&Token{format: c.of, Claims: Claims{Subject: []byte("bob"), Guessed: c.guessed}}); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// An app may have two kinds of cookies, and small numbers are ids in every table.
func TestAGuessIsProvenForItsOwnCookie(t *testing.T) {
	t.Parallel()
	rd, err := New(Config{Formats: []formats.Format{new(plain)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	token := func(cookie, subject string) *Token {
		return &Token{format: 1, Names: []string{cookie}, Claims: Claims{Subject: []byte(subject), Guessed: true}}
	}
	evidence := rd.Evidence(NewFindings())
	evidence.Found(token("staff.0", "ada"))
	evidence.Found(token("numbered", "7"))
	for name, c := range map[string]struct {
		token *Token
		want  bool
	}{
		"the same cookie":             {token("staff", "bob"), true},
		"another chunk":               {token("staff.1", "bob"), true},
		"another cookie":              {token("customer", "bob"), false},
		"a number in the same cookie": {token("staff", "7"), false},
		"where a number was found":    {token("numbered", "8"), false},
		"a text there":                {token("numbered", "bob"), false},
	} {
		if got := evidence.Proves(c.token); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	for i := range 2 * maxGuesses { // somebody names a cookie of their own in many ways
		evidence.Found(token(fmt.Sprintf("mine%d", i), "ada"))
	}
	if len(evidence.guesses) != maxGuesses {
		t.Errorf("%d kinds are kept", len(evidence.guesses))
	}
}

// TestWhatWasFoundCountsAfterAReload that replaces the keys, or how users are looked up.
func TestWhatWasFoundCountsAfterAReload(t *testing.T) {
	t.Parallel()
	const one, other = 1, 2
	open := func() *Reader {
		rd, err := New(Config{Formats: []formats.Format{new(plain), new(plain)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(rd.Close)
		return rd
	}
	former := NewFindings()
	before := open().Evidence(former)
	before.Found(&Token{format: one})
	before.Found(&Token{format: one, Names: []string{"id"}, Claims: Claims{Subject: []byte("ada"), Guessed: true}})
	next := NewFindings()
	next.Succeed(former)
	for name, after := range map[string]*Evidence{"the same engine": open().Evidence(former), "another one": open().Evidence(next)} {
		guessed := func(cookie string) *Token {
			return &Token{format: one, Names: []string{cookie}, Claims: Claims{Subject: []byte("bob"), Guessed: true}}
		}
		if !after.Proves(&Token{format: one}) || !after.Proves(guessed("id")) || after.Proves(&Token{format: other}) || after.Proves(guessed("other")) {
			t.Errorf("%s: what was found does not count", name)
		}
	}
}
