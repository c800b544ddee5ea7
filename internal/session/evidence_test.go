package session

import (
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
		evidence := rd.NewEvidence()
		for _, library := range c.found {
			evidence.Found(&Token{format: library})
		}
		if got := evidence.Proves(&Token{format: c.of, Claims: Claims{Guessed: c.guessed}}); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
