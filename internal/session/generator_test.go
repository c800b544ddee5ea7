package session

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

// generator generates requests of an attacker who knows how apps read cookies.
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

// name returns the name of a cookie.
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

// value returns the value of a cookie, usually a token with a small change.
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

// line returns a Cookie field.
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

// request returns the header of a request.
func (g *generator) request() http.Header {
	h := http.Header{}
	for range 1 + g.IntN(8)/7 {
		h.Add("Cookie", g.line())
	}
	if g.IntN(10) == 0 {
		h.Set("Authorization", pick(g, "Bearer ", "Bearer ", "bearer ", "Bearer  ", "Basic ", "Bearer\t", "")+g.value())
	}
	// Caddy's server rejects control characters and trims whitespace.
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

// bytesAsRunes returns a character for each byte.
func bytesAsRunes(text string) []rune {
	runes := make([]rune, len(text))
	for i := range len(text) {
		runes[i] = rune(text[i])
	}
	return runes
}
