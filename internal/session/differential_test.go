package session

import (
	"bufio"
	"encoding/json"
	"flag"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
)

var (
	headers = flag.Int("headers", 4000, "how many headers the real libraries are asked about")
	seed    = flag.Uint64("seed", 1, "what the headers are made from; 0 for others each time")
)

// judge is a Node.js process that runs the real libraries.
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
	in, out := StartProgram(t, dir, []string{"SECRET=" + secret, "NODE_ENV=production"}, "node", "judge.mjs")
	return &judge{json.NewEncoder(in), out}
}

// StartProgram starts a program that answers lines of JSON, until the end of the test.
func StartProgram(t *testing.T, dir string, environment []string, program, script string) (io.Writer, *json.Decoder) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, script)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), environment...)
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
	return in, json.NewDecoder(bufio.NewReader(out))
}

// ask sends a request to the process, as Node.js passes it to an app.
func (j *judge) ask(h http.Header) error {
	return j.in.Encode(map[string][]byte{
		"cookie": []byte(strings.Join(h["Cookie"], "; ")), "authorization": []byte(h.Get("Authorization")),
	})
}

// TestTheRealLibrariesReadNoMoreThanIsJudged generates requests, and lets
// next-auth and @auth/core read them in every way that apps do. Reader must
// read each session that any of them reads, and none may read a session from a
// stripped request.
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
		refused bool // too large: not read, and kept from the app
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

// TestReadingsThatTheRealLibrariesTaught has requests that the comparison found.
func TestReadingsThatTheRealLibrariesTaught(t *testing.T) {
	token := v4(t, "ada")
	half := len(token) / 2
	for name, header := range map[string]http.Header{
		"a cookie that Next.js cannot decode":           {"Cookie": {v4Name + ".0=" + token + "; " + v4Name + ".1=%"}},
		"the same before it":                            {"Cookie": {v4Name + ".-1=%%; " + v4Name + ".0=" + token}},
		"the same between chunks":                       {"Cookie": {v4Name + ".0=" + token[:half] + "; " + v4Name + ".1=%zz; " + v4Name + ".2=" + token[half:]}},
		"of duplicate names the last cannot be decoded": {"Cookie": {v4Name + "=" + token + "; " + v4Name + "=%"}},
		"a name alone before it":                        {"Cookie": {v4Name + "; " + v4Name + "=" + token + "; " + v4Name + "=x"}},
		"a blank makes another name":                    {"Cookie": {v4Name + "\t=x; " + v4Name + "=" + token + "; " + v4Name + "\t=y"}},
		"a blank of Latin-1 makes another name":         {"Cookie": {v4Name + "\xa0=x; " + v4Name + "=" + token + "; " + v4Name + "=y"}},
		"a Bearer token with a tab in it":               {"Authorization": {"Bearer " + token[:len(token)-4] + "\t" + token[len(token)-4:]}},
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
