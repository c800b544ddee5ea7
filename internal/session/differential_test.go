package session

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
)

var (
	headers = flag.Int("headers", 4000, "how many headers the real libraries are asked about")
	seed    = flag.Uint64("seed", 1, "what the headers are made from; 0 for others each time")
)

// generator makes requests that somebody might send who knows how apps read
// cookies.
type generator struct {
	*rand.Rand

	tokens []string
}

func newGenerator(t *testing.T, seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	for i := range 6 {
		g.tokens = append(g.tokens, v4(t, fmt.Sprint("v4 ", i)))
		for _, name := range []string{v5Name, "__Secure-" + v5Name} {
			g.tokens = append(g.tokens, v5(t, name, fmt.Sprintf("v5 %s %d", name, i)))
		}
	}
	for _, claims := range []map[string]any{{"sub": "expired", "exp": time.Now().Add(-time.Hour).Unix()}, {"sub": nil}, {"sub": ""}} {
		token, err := mint.V4(secret, claims)
		if err != nil {
			t.Fatal(err)
		}
		g.tokens = append(g.tokens, token)
	}
	foreign, err := mint.V4("another secret", map[string]any{"sub": "foreign"})
	if err != nil {
		t.Fatal(err)
	}
	g.tokens = append(g.tokens, foreign)
	return g
}

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

// name is a cookie's name.
func (g *generator) name() string {
	name := pick(g, v4Name, v4Name, v5Name, v5Name, "__Secure-"+v4Name, "__Secure-"+v5Name, "__Host-"+v5Name, "theme", "x-"+v4Name)
	switch g.IntN(6) {
	case 0:
		name += pick(g, ".0", ".1", ".2", ".10", ".x", "-a", ".", ".-1", ".0x1", ".1e3", ". 1", "..", ".0.1", ".+1", "\xa0", ".٣", "%2E0")
	case 1:
		if g.IntN(8) == 0 {
			name = strings.ToUpper(name)
		}
	}
	return name
}

// value is a cookie's value, as a rule a token that was changed a little.
func (g *generator) value() string {
	token := pick(g, g.tokens...)
	at := g.IntN(len(token))
	switch g.IntN(22) {
	case 0:
		return pick(g, "", "x", "....", "a.b.c", `"`, "%", "%%", "=", "null", "undefined")
	case 1:
		return token[:at] + pick(g, "%2E", "%2e", "%", "!", "=", "+", " ", "\t", "\xa0", "\"", ",", "\xe9", "~") + token[at:]
	case 2:
		return strings.ReplaceAll(token, pick(g, ".", "e", "A", "_", "-"), pick(g, "%2E", "%65", "%41", "%5F", "%2D", "%2d"))
	case 3:
		return `"` + token + pick(g, `"`, "", "x", `""`)
	case 4:
		return pick(g, " ", "\t", "\xa0", "\v", "\"") + token + pick(g, " ", "\t", "\xa0", "")
	case 5:
		return token[:at] // a chunk
	case 6:
		return token[at:]
	case 7:
		return strings.NewReplacer("-", "+", "_", "/").Replace(token)
	case 8:
		return token + pick(g, "=", "==", "A", "\xff", "%00", ".", "=x")
	}
	return token
}

// line is a Cookie field.
func (g *generator) line() string {
	var pairs []string
	for range 1 + g.IntN(4) {
		if g.IntN(6) == 0 { // the chunks of one token, perhaps not all
			name, token := pick(g, v4Name, v5Name), pick(g, g.tokens...)
			for _, cookie := range mint.Chunk(name, token, 1+len(token)/(1+g.IntN(12))) {
				pairs = append(pairs, cookie.Name+"="+cookie.Value)
			}
			if g.IntN(3) == 0 {
				g.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
			}
			if g.IntN(6) == 0 {
				pairs = pairs[1:]
			}
			continue
		}
		pairs = append(pairs, g.name()+pick(g, "=", "=", "=", "=", " = ", "\t=", "")+g.value())
	}
	return strings.Join(pairs, pick(g, "; ", "; ", "; ", ";", " ;", ";; ", ", ", ";\t"))
}

// request is the header of a request.
func (g *generator) request() http.Header {
	h := http.Header{}
	for range 1 + g.IntN(8)/7 {
		h.Add("Cookie", g.line())
	}
	if g.IntN(10) == 0 {
		h.Set("Authorization", pick(g, "Bearer ", "Bearer ", "bearer ", "Bearer  ", "Basic ", "Bearer\t", "")+g.value())
	}
	// Caddy's server refuses control characters, and takes blanks off.
	for _, values := range h {
		for i, value := range values {
			values[i] = strings.Trim(strings.Map(func(c rune) rune {
				if c == '\v' {
					return ' '
				}
				return c
			}, string(bytesAsRunes(value))), " \t")
			values[i] = latin1(values[i])
		}
	}
	return h
}

// bytesAsRunes is a text of a character for each byte.
func bytesAsRunes(text string) []rune {
	runes := make([]rune, len(text))
	for i := range len(text) {
		runes[i] = rune(text[i])
	}
	return runes
}

// judge is a Node process with the real libraries.
type judge struct {
	in  *json.Encoder
	out *json.Decoder
}

func startJudge(t *testing.T) *judge {
	t.Helper()
	const dir = "testdata/generate"
	if err := npm.Install(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "judge.mjs")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "SECRET="+secret, "NODE_ENV=production")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return &judge{json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))}
}

// ask asks about a request, as Node hands it to an app.
func (j *judge) ask(h http.Header) error {
	return j.in.Encode(map[string][]byte{
		"cookie": []byte(strings.Join(h["Cookie"], "; ")), "authorization": []byte(h.Get("Authorization")),
	})
}

// TestTheRealLibrariesReadNoMoreThanIsJudged generates requests, and has
// next-auth and @auth/core read them in every way that apps do. Each session
// that any of them reads was judged; and of a request that was stripped none
// reads any.
func TestTheRealLibrariesReadNoMoreThanIsJudged(t *testing.T) {
	from := *seed
	if from == 0 {
		from = rand.Uint64()
	}
	t.Logf("seed %d", from)
	j, g, rd := startJudge(t), newGenerator(t, from), newReader(t, Config{})
	type question struct {
		header  http.Header
		judged  []string
		refused bool // not looked at, and kept from the app
	}
	const batch = 500
	var asked, sessions, read, beyond, refused int
	for asked < *headers && !t.Failed() {
		questions := make([]question, batch)
		for i := range questions {
			q := &questions[i]
			q.header = g.request()
			var s Session
			rd.Read(q.header, &s)
			q.judged, q.refused = subjects(&s), s.TooLarge
		}
		failed := make(chan error, 1)
		go func() {
			for _, q := range questions {
				stripped := q.header.Clone()
				rd.Strip(stripped)
				for _, h := range []http.Header{q.header, stripped} {
					if err := j.ask(h); err != nil {
						failed <- err
						return
					}
				}
			}
			failed <- nil
		}()
		for _, q := range questions {
			var app, stripped map[string]string
			for _, into := range []*map[string]string{&app, &stripped} {
				if err := j.out.Decode(into); err != nil {
					t.Fatal(err)
				}
			}
			asked++
			for how, subject := range app {
				read++
				if !q.refused && !slices.Contains(q.judged, subject) {
					t.Errorf("%q: %s reads %q; judged were %q", q.header, how, subject, q.judged)
				}
			}
			if len(app) > 0 {
				sessions++
			}
			if q.refused {
				refused++
			}
			for how, subject := range stripped {
				t.Errorf("%q: stripped, %s still reads %q", q.header, how, subject)
			}
			if slices.ContainsFunc(q.judged, func(subject string) bool { return !holds(app, subject) }) {
				beyond++
			}
		}
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d headers: the libraries read a session from %d, in %d ways; %d had one judged that they do not read, %d were too large", asked, sessions, read, beyond, refused)
	if sessions < asked/4 || beyond > asked/2 {
		t.Error("the headers are not worth much")
	}
}

func holds(read map[string]string, subject string) bool {
	for _, s := range read {
		if s == subject {
			return true
		}
	}
	return false
}

// TestReadingsThatTheRealLibrariesTaught pins what the comparison has found.
func TestReadingsThatTheRealLibrariesTaught(t *testing.T) {
	token := v4(t, "ada")
	half := len(token) / 2
	for name, header := range map[string]http.Header{
		"a cookie that Next.js cannot decode":             {"Cookie": {v4Name + ".0=" + token + "; " + v4Name + ".1=%"}},
		"the same before it":                              {"Cookie": {v4Name + ".-1=%%; " + v4Name + ".0=" + token}},
		"the same between chunks":                         {"Cookie": {v4Name + ".0=" + token[:half] + "; " + v4Name + ".1=%zz; " + v4Name + ".2=" + token[half:]}},
		"of doubled names the last one cannot be decoded": {"Cookie": {v4Name + "=" + token + "; " + v4Name + "=%"}},
		"a name alone before it":                          {"Cookie": {v4Name + "; " + v4Name + "=" + token + "; " + v4Name + "=x"}},
		"a blank makes another name":                      {"Cookie": {v4Name + "\t=x; " + v4Name + "=" + token + "; " + v4Name + "\t=y"}},
		"a blank of Latin-1 makes another name":           {"Cookie": {v4Name + "\xa0=x; " + v4Name + "=" + token + "; " + v4Name + "=y"}},
		"a Bearer token with a tab in it":                 {"Authorization": {"Bearer " + token[:len(token)-4] + "\t" + token[len(token)-4:]}},
	} {
		t.Run(name, func(t *testing.T) {
			rd := newReader(t, Config{})
			if s := read(rd, header); !slices.Contains(subjects(s), "ada") {
				t.Errorf("read %q (%s)", subjects(s), s.Failure)
			}
			rd.Strip(header)
			if len(header) != 0 {
				t.Errorf("stripping leaves %q", header)
			}
		})
	}
}
