package session

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"testing"
	"time"
)

// lenient is how the real libraries and JavaScript read odd input. The program
// in testdata/generate writes it.
type lenient struct {
	Tokens []struct {
		CookieName    string `json:"cookie_name"`
		Secret, Token string
		Accepted      bool
	}
	Jars []struct {
		Jar    [][2]string
		V4, V5 string
	}
	Escapes []struct {
		Text    string  // Latin-1, in base64
		Decoded *string // null where JavaScript throws
	}
}

func readLenient(t *testing.T) (l lenient) {
	t.Helper()
	text, err := os.ReadFile("testdata/lenient.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &l); err != nil {
		t.Fatal(err)
	}
	if len(l.Tokens) < 100 || len(l.Jars) < 100 || len(l.Escapes) < 100 {
		t.Fatal("there is hardly anything in it")
	}
	return l
}

// latin1 returns text as Node.js sends it: a byte for each character.
func latin1(text string) string {
	var bytes []byte
	for _, c := range text {
		bytes = append(bytes, byte(c))
	}
	return string(bytes)
}

// A token that was changed in a way that the libraries ignore is still a session
// to the app.
func TestEveryTokenThatTheLibrariesAcceptIsRead(t *testing.T) {
	accepted := 0
	for _, v := range readLenient(t).Tokens {
		if !v.Accepted {
			continue
		}
		accepted++
		rd := newReader(t, Config{Secrets: []string{v.Secret}})
		// The token alone, without the parsing of escapes and quotes.
		var claims Claims
		if failure := rd.decode(v.CookieName, latin1(v.Token), &Session{At: time.Now()}, &claims); failure != "" || string(claims.Subject) != "1" {
			t.Errorf("%q: %s", v.Token, failure)
		}
		header := http.Header{"Cookie": {v.CookieName + "=" + latin1(v.Token)}}
		if s := read(rd, header); len(s.Tokens) != 1 {
			t.Errorf("as a cookie: %q: %s", v.Token, s.Failure)
		}
	}
	if accepted < 50 {
		t.Errorf("only %d variants are accepted by the libraries", accepted)
	}
}

func TestJarsAreJoinedAsTheRealSessionStoresDo(t *testing.T) {
	for _, v := range readLenient(t).Jars {
		var jar []cookie
		for _, pair := range v.Jar {
			jar = append(jar, cookie{pair[0], pair[1], pair[0] + "=" + pair[1], authJS})
		}
		if got := join(jar, false).text; got != v.V4 {
			t.Errorf("%q joins to %q, in next-auth to %q", v.Jar, got, v.V4)
		}
		if got := join(jar, true).text; got != v.V5 {
			t.Errorf("%q joins to %q, in @auth/core to %q", v.Jar, got, v.V5)
		}
		texts := make(map[string]bool)
		for _, way := range appendReadings(nil, jar, v4Name) {
			texts[way.text] = true
		}
		if !texts[v.V4] || !texts[v.V5] {
			t.Errorf("%q is not read in both ways", v.Jar)
		}
	}
}

func TestEscapesAreDecodedAsJavaScriptDoes(t *testing.T) {
	for _, v := range readLenient(t).Escapes {
		text, err := base64.StdEncoding.DecodeString(v.Text)
		if err != nil {
			t.Fatal(err)
		}
		want := string(text)
		if v.Decoded != nil {
			want = *v.Decoded
		}
		got := decodeURIComponent(string(text))
		if v.Decoded == nil && got != want {
			t.Errorf("%q becomes %q, where JavaScript throws", text, got)
		}
		// What is not escaped remains a byte here, and is a character in JavaScript.
		if v.Decoded != nil && mixed(got) != want && got != want {
			t.Errorf("%q becomes %q, in JavaScript %q", text, got, want)
		}
	}
}

// mixed replaces bytes that are not UTF-8 by their Latin-1 characters.
func mixed(text string) string {
	out := ""
	for i, c := range text {
		if c == 0xfffd && text[i] >= 0x80 && text[i] != 0xef {
			out += string(rune(text[i]))
			continue
		}
		out += string(c)
	}
	return out
}
