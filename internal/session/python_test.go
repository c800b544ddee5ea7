package session

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// TestPythonReadsNoMoreThanIsJudged generates Cookie fields and has Python read
// them: each token that it reads must be judged, and none is left after stripping.
func TestPythonReadsNoMoreThanIsJudged(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	const name = "app.session"
	rd := newReader(t, Config{CookieNames: []string{name}})
	g := &generator{Rand: rand.New(rand.NewPCG(*seed, 1))}
	subjectOf := make(map[string]string)
	for _, subject := range []string{"ada", "bob", "eve"} {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": subject}).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		g.tokens, subjectOf[token] = append(g.tokens, token), subject
	}
	blank := func() string {
		if g.IntN(8) > 0 {
			return ""
		}
		return pick(g, " ", "\t", "\xa0", "\x85", "\u2003", "\u00a0", ",")
	}
	escape := func(token string) string {
		switch g.IntN(6) {
		case 0:
			return octal(token)
		case 1:
			return `"` + strings.ReplaceAll(token, pick(g, "e", "A", "."), pick(g, `\145`, `\e`, `\.`, `\056`, `\101`)) + `"`
		case 2:
			return pick(g, `"`, `'`, `\`) + token + pick(g, `"`, `'`, "")
		case 3:
			return `"` + token + `"`
		}
		return token
	}
	var fields []http.Header
	var questions bytes.Buffer
	ask := func(h http.Header) {
		fields = append(fields, h)
		questions.WriteString(base64.StdEncoding.EncodeToString([]byte(strings.Join(h["Cookie"], "; "))) + "\n")
	}
	for range *headers {
		var line strings.Builder
		for range 1 + g.IntN(4) {
			line.WriteString(blank() + pick(g, name, name, name, name, name, "theme", "theme", "$Path", "path", "x"+name, `"`+name) + blank() + pick(g, "=", "=", "=", "=", "=", "=", "==", "") + blank())
			line.WriteString(pick(g, escape(pick(g, g.tokens...)), escape(pick(g, g.tokens...)), escape(pick(g, g.tokens...)), "x", `"a b"`, "") + blank() + pick(g, ";", "; ", "; ", " ", "\t", ", ", ";;"))
		}
		h := http.Header{"Cookie": {strings.Trim(line.String(), " \t")}}
		ask(h)
		stripped := h.Clone()
		rd.Strip(stripped)
		ask(stripped)
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/cookies.py")
	cmd.Stdin = &questions
	answers, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(answers))
	found := 0
	for i, h := range fields {
		var jars []map[string]string
		if err := decoder.Decode(&jars); err != nil {
			t.Fatal(err)
		}
		var s Session
		rd.Read(h, &s)
		for how, jar := range jars {
			subject, isToken := subjectOf[jar[name]]
			if !isToken {
				continue
			}
			found++
			if i%2 == 1 {
				t.Errorf("%q, stripped: parser %d still reads %s", fields[i-1]["Cookie"], how, subject)
			} else if !s.TooLarge && !slices.Contains(subjects(&s), subject) {
				t.Errorf("%q: parser %d reads %s, judged were %q", h["Cookie"], how, subject, subjects(&s))
			}
		}
	}
	if found < len(fields)/8 {
		t.Errorf("the headers are not worth much: %d tokens in %d", found, len(fields))
	}
}
