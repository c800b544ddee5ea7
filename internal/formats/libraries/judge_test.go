// Package libraries tests the formats with the real libraries: what these read from
// odd requests, and what becomes of sessions in front of apps.
package libraries

import (
	"encoding/json"
	"flag"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/auth0"
	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/cookie"
	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/iron"
	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/remix"
	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/supabase"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/reads"
)

var (
	headers = flag.Int("headers", 300, "how many headers the real libraries are asked about")
	seed    = flag.Uint64("seed", 1, "what the headers are made from; 0 for others each time")
)

// password is that of libraries.mjs.
const password = "a password of sessions, which has 32 characters or more"

// node starts a program with the real libraries. Its standard input ends with the test.
func node(t *testing.T, script string) (io.Writer, io.Reader) {
	t.Helper()
	if err := npm.Install(t.Context(), "node"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "--no-warnings", "--experimental-websocket", script)
	cmd.Dir = "node"
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var failed strings.Builder
	cmd.Stderr = &failed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("%s: %v: %s", script, err, failed.String())
		}
	})
	return in, out
}

// reader reads the sessions of all libraries.
func reader(t testing.TB) *session.Reader {
	t.Helper()
	of := func(subject string, names ...string) cookie.Options {
		return cookie.Options{Secrets: []string{password}, Cookies: names, Subject: subject}
	}
	resources := new(provision.Resources)
	t.Cleanup(func() { _ = resources.Release() })
	rd, err := resources.Reader(environment.New(), provision.Sessions{Formats: []caddy.Module{
		&iron.Session{Options: of("", "session")}, &iron.H3{Options: of(""), Version2: true}, &remix.Remix{Options: of("")},
		&auth0.Auth0{Options: of("user.sub")}, &supabase.Supabase{Options: of("")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return rd
}

// generator makes requests of an attacker who knows how the libraries read cookies.
type generator struct {
	*rand.Rand

	pairs [][]string // the cookies of each session
}

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

// cookies returns the cookies of a session, perhaps with a change.
func (g *generator) cookies() []string {
	pairs := slices.Clone(pick(g, g.pairs...))
	at := g.IntN(len(pairs))
	name, value, _ := strings.Cut(pairs[at], "=")
	place := g.IntN(len(value))
	switch g.IntN(24) {
	case 0, 1, 2, 3:
	case 4:
		value = value[:place] + pick(g, "%2E", "%", "!", "=", "+", " ", "\t", "\xa0", "\"", ",", "\xe9", "~", "*", "%20", "A") + value[place:]
	case 5:
		character := pick(g, "F", "e", ".", "*", "A", "-", "_")
		value = strings.ReplaceAll(value, character, "%"+strings.ToUpper(hex(character[0])))
	case 6:
		value = `"` + value + pick(g, `"`, "", "x")
	case 7:
		value = pick(g, " ", "\t", "\xa0") + value + pick(g, " ", "\xa0", "")
	case 8:
		value = value[:place]
	case 9:
		value += pick(g, "=", "==", "A", "~2", "~", "~3", "%0A", "%3D", "%00", ".")
	case 10: // in more chunks
		separator := pick(g, ".", "__")
		pairs = append(pairs, name+separator+pick(g, "1", "01", "2")+"="+value[place:])
		name, value = name+separator+pick(g, "0", "00", "1"), value[:place]
	case 11:
		name += pick(g, ".0", ".1", ".00", "__0", "__00", " ", ".", ".x")
	case 12:
		name = pick(g, "session", "nuxt-session", "h3", "__session", "appSession", "sb-localhost-auth-token", "session.0", "__session__0", "appSession.0")
	case 13:
		pairs = append(pairs, name+"="+pick(g, "", "x", "%", "__chunked__1"))
	case 14:
		pairs = slices.Insert(pairs, 0, name+"="+pick(g, "", "x", "%"))
	case 15:
		pairs = append(pairs, pick(g, g.pairs...)...)
	case 16:
		value = pick(g, "__chunked__1", "__chunked__2x", "__chunked__02", "__chunked__0", "__chunked__ 2", "__chunked__+2", "__chunked__2.9", "__chunked__1e1")
	case 17:
		value = strings.NewReplacer("-", "+", "_", "/").Replace(value)
	case 18:
		pairs = append(pairs, name+".1=", name+".2=x")
	case 19:
		name = strings.ToUpper(name)
	case 20:
		value = strings.Replace(value, "base64-", pick(g, "", "BASE64-", "base64-base64-"), 1)
	}
	pairs[at] = name + pick(g, "=", "=", "=", "=", "=", " =", "= ") + value
	if g.IntN(6) == 0 {
		g.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	}
	return pairs
}

func hex(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}

// request returns the header of a request.
func (g *generator) request() http.Header {
	pairs := g.cookies()
	if g.IntN(5) == 0 {
		pairs = append(pairs, g.cookies()...)
	}
	h := http.Header{"Cookie": {strings.Trim(strings.Join(pairs, pick(g, "; ", "; ", ";", " ; ")), " \t")}}
	if g.IntN(5) == 0 {
		_, value, _ := strings.Cut(pick(g, g.cookies()...), "=")
		h.Set(pick(g, "X-Nuxt-Session-Session", "X-H3-Session"), strings.Trim(value, " \t"))
	}
	return h
}

// TestTheRealLibrariesReadNoMoreThanIsJudged lets the real libraries read odd requests.
// Whomever one of them reads is judged, unless all cookies are kept from the app; and
// none reads anybody from what is left once they are.
func TestTheRealLibrariesReadNoMoreThanIsJudged(t *testing.T) {
	from := *seed
	if from == 0 {
		from = rand.Uint64()
	}
	t.Logf("seed %d", from)
	in, out := node(t, "judge.mjs")
	ask, answers := json.NewEncoder(in), json.NewDecoder(out)
	rd, g := reader(t), &generator{Rand: rand.New(rand.NewPCG(from, 0))}
	for _, user := range []string{"ada", "bob", "eve-big"} {
		if err := ask.Encode(map[string]string{"write": user}); err != nil {
			t.Fatal(err)
		}
		var written map[string][]string
		if err := answers.Decode(&written); err != nil {
			t.Fatal(err)
		}
		if len(written) != 10 {
			t.Fatalf("%d libraries write sessions", len(written))
		}
		for _, library := range slices.Sorted(maps.Keys(written)) {
			var pairs []string
			for _, line := range written[library] {
				pair, _, _ := strings.Cut(line, ";")
				pairs = append(pairs, pair)
			}
			g.pairs = append(g.pairs, pairs)
			if got := reads.Subjects(rd, http.Header{"Cookie": {strings.Join(pairs, "; ")}}); !slices.Equal(got, []string{user}) {
				t.Errorf("%s: read %q, want %s", library, got, user)
			}
		}
	}
	var sessions, read, beyond, refused int
	for i := 0; i < *headers && !t.Failed(); i++ {
		header := g.request()
		judged := reads.Subjects(rd, header)
		stripped := header.Clone()
		rd.Strip(stripped)
		var app, left map[string]string
		for _, question := range []struct {
			header http.Header
			answer *map[string]string
		}{{header, &app}, {stripped, &left}} {
			encoded := make(map[string][]byte)
			for name, values := range question.header {
				encoded[strings.ToLower(name)] = []byte(strings.Join(values, "; "))
			}
			if err := ask.Encode(encoded); err != nil {
				t.Fatal(err)
			}
			if err := answers.Decode(question.answer); err != nil {
				t.Fatal(err)
			}
		}
		tooLarge := slices.Contains(judged, "too large")
		for library, user := range app {
			read++
			if !tooLarge && !slices.Contains(judged, user) {
				t.Errorf("%q: %s reads %q; judged were %q", header, library, user, judged)
			}
		}
		for library, user := range left {
			t.Errorf("%q: of what is left, %q, %s still reads %q", header, stripped, library, user)
		}
		switch {
		case tooLarge:
			refused++
		case len(app) > 0:
			sessions++
		case len(judged) > 0:
			beyond++
		}
	}
	t.Logf("%d headers: the libraries read a session from %d, in %d ways; %d had one judged that none reads, %d were too large", *headers, sessions, read, beyond, refused)
	if sessions < *headers/4 || beyond > *headers/4 {
		t.Error("the headers are not worth much")
	}
}
