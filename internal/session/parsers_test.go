package session_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

const (
	appCookie = "app.session"
	appSecret = "a secret for the cookies of another framework"
	batch     = 500
)

// parser is a process that reads tokens from Cookie fields as apps do.
type parser struct {
	in  io.Writer
	out *json.Decoder
}

// startParser starts a program of testdata.
func startParser(t *testing.T, dir, program, script string, subjects map[string]string) *parser {
	t.Helper()
	tokens, err := json.Marshal(subjects)
	if err != nil {
		t.Fatal(err)
	}
	in, out := session.StartProgram(t, dir, []string{"NAME=" + appCookie, "SECRET=" + appSecret, "TOKENS=" + string(tokens)}, program, script)
	return &parser{in, out}
}

// read returns the subjects that apps read from each header, by the way to read it.
func (p *parser) read(t *testing.T, headers []http.Header) []map[string]string {
	t.Helper()
	var questions strings.Builder
	for _, h := range headers {
		questions.WriteString(base64.StdEncoding.EncodeToString([]byte(strings.Join(h["Cookie"], "; "))) + "\n")
	}
	failed := make(chan error, 1)
	go func() {
		_, err := io.WriteString(p.in, questions.String())
		failed <- err
	}()
	read := make([]map[string]string, len(headers))
	for i := range read {
		if err := p.out.Decode(&read[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	return read
}

// forms generates Cookie fields as other frameworks write them, and as an attacker
// does who knows how they are read.
type forms struct {
	*rand.Rand

	tokens []string
}

func (g *forms) pick(list ...string) string { return list[g.IntN(len(list))] }

// blank returns nothing, as a rule.
func (g *forms) blank() string {
	if g.IntN(8) > 0 {
		return ""
	}
	return g.pick(" ", "\t", "\xa0", "\x85", "\u2003", "\u00a0", ",")
}

func (g *forms) name() string {
	switch g.IntN(10) {
	case 0:
		return g.pick("theme", "theme", "$Path", "path", "x"+appCookie, `"`+appCookie)
	case 1:
		return g.pick("app_session", "app session", "app[session", "app[session]", "app%2esession", "app%2Esession", "app%5Fsession", "%61pp.session", "+app.session", "app_session%00x", appCookie+"%00", appCookie+"[", appCookie+".0")
	}
	return appCookie
}

// sign signs a value as cookie-signature does.
func sign(value string) string {
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write([]byte(value))
	return value + "." + base64.RawStdEncoding.EncodeToString(mac.Sum(nil))
}

// express returns a value as Express writes it.
func (g *forms) express() string {
	token := g.pick(g.tokens...)
	value := token
	if g.IntN(3) > 0 {
		encoded := `"` + token + `"`
		switch g.IntN(6) {
		case 0:
			encoded = `"` + strings.ReplaceAll(token, g.pick("e", ".", "A"), g.pick(`\u0065`, `\u002e`, `\u002E`, `\u0041`)) + `"`
		case 1:
			encoded = fmt.Sprintf(`{"token":"%s","n":1}`, token)
		case 2:
			encoded = fmt.Sprintf(`{"user":{"tokens":["x","%s"]}}`, token)
		case 3:
			encoded = g.pick(" ", "\t", "[", "") + `"` + token + `"` + g.pick(" ", "]", ",", "")
		}
		value = "j:" + encoded
	}
	if g.IntN(2) == 0 {
		if value = "s:" + sign(value); g.IntN(6) == 0 {
			value = "s:" + sign(value)
		}
	}
	switch g.IntN(4) {
	case 0:
		return value
	case 1:
		return strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
	case 2:
		return strings.NewReplacer("%", "%25", `"`, "%22", ",", "%2C", "{", "%7b", `\`, "%5C", "+", "%2B").Replace(value)
	}
	return strings.ToLower(value[:2]) + url.PathEscape(value[2:])
}

// value returns the value of a cookie.
func (g *forms) value() string {
	token := g.pick(g.tokens...)
	end := len(token) - 1 - g.IntN(20) // within the signature
	switch g.IntN(16) {
	case 0, 1, 2, 3:
		return g.express()
	case 4:
		return `"` + strings.ReplaceAll(token, ".", `\056`) + `"`
	case 5:
		return `"` + strings.ReplaceAll(token, g.pick("e", "A", "."), g.pick(`\145`, `\e`, `\.`, `\056`, `\101`)) + `"`
	case 6:
		return g.pick(`"`, `'`, `\`) + token + g.pick(`"`, `'`, "")
	case 7:
		return `"` + token + `"`
	case 8:
		return token[:end] + g.pick("+", "%2B", " ", "%20", "%", "%00", "%zz", "!", "\xe9", `\`, "=") + token[end:] + g.pick("", "", "=", "==")
	case 9:
		return strings.ReplaceAll(token, g.pick(".", "e", "_", "-"), g.pick("%2E", "%2e", "%65", "%5F", "%2D")) + g.pick("", "", "%", "%!", "+", "%20", "%00x")
	case 10:
		return g.pick("x", `"a b"`, "", "j:", "j:{", "s:", "s:.", `j:"`, "%")
	}
	return token
}

// field returns a Cookie field, without what Caddy's server rejects or trims.
func (g *forms) field() string {
	var line strings.Builder
	for range 1 + g.IntN(4) {
		line.WriteString(g.blank() + g.name() + g.blank() + g.pick("=", "=", "=", "=", "=", "=", "==", "") + g.blank())
		line.WriteString(g.value() + g.blank() + g.pick(";", "; ", "; ", "; ", " ", "\t", ", ", ";;"))
	}
	return strings.Trim(line.String(), " \t")
}

// question is a request, and what becomes of it.
type question struct {
	header   http.Header
	stripped http.Header // without its sessions
	forward  http.Header // what the app gets
	cleared  http.Header // what the browser deletes
	check    verdict.Check
	judged   []string
}

// ask judges a request of which the tokens whose subject begins with "stale" are
// stale.
func ask(rd *session.Reader, header http.Header) *question {
	q := &question{header: header, stripped: header.Clone(), forward: header}
	rd.Strip(q.stripped)
	judge := func(tokens []session.Token) []verdict.Judgement {
		var all []verdict.Judgement
		for i := range tokens {
			subject := tokens[i].Claims.Subject
			j := verdict.Judgement{Verdict: verdict.Live, Subject: subject}
			if strings.HasPrefix(string(subject), "stale") {
				j.Verdict, j.Reason = verdict.Stale, verdict.UserNotFound
			}
			all = append(all, j)
		}
		return all
	}
	s := new(session.Session)
	rd.Read(header, s)
	for _, token := range s.Tokens {
		q.judged = append(q.judged, string(token.Claims.Subject))
	}
	judgements := judge(s.Tokens)
	if q.check = verdict.Whole(s, judgements); q.check.Strip {
		q.forward = verdict.Separate(rd, rd.Fields(header.Clone()), judgements, &q.check, rd.Read, judge)
	}
	q.cleared = http.Header{}
	for pair := range strings.SplitSeq(strings.Join(header["Cookie"], ";"), ";") {
		pair = strings.TrimLeft(pair, " ")
		if name, _, _ := strings.Cut(pair, "="); slices.Contains(q.check.Ended, strings.Trim(name, " \t")) {
			q.cleared.Add("Cookie", pair)
		}
	}
	return q
}

// TestTheRealLibrariesOfOtherFrameworks generates Cookie fields, and lets the parsers
// of other frameworks read them. What they read is judged; none of them reads a stale
// token in what the app gets, and whoever sends a live one does not lose it.
func TestTheRealLibrariesOfOtherFrameworks(t *testing.T) {
	count, _ := flag.Lookup("headers").Value.(flag.Getter).Get().(int) // those of the internal tests
	from, _ := flag.Lookup("seed").Value.(flag.Getter).Get().(uint64)
	if from == 0 {
		from = rand.Uint64()
	}
	t.Logf("seed %d", from)
	rd, err := session.New(session.Config{Secrets: []string{appSecret}, CookieNames: []string{appCookie}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rd.Close() })
	g := &forms{Rand: rand.New(rand.NewPCG(from, 1))}
	subjects := make(map[string]string)
	for _, subject := range []string{"live ada", "live bob", "stale eve", "stale mallory"} {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": subject}).SignedString([]byte(appSecret))
		if err != nil {
			t.Fatal(err)
		}
		g.tokens, subjects[token] = append(g.tokens, token), subject
	}
	const generate = "testdata/generate"
	if err := npm.Install(t.Context(), generate); err != nil {
		t.Fatal(err)
	}
	parsers := []*parser{startParser(t, generate, "node", "express.mjs", subjects)}
	if python, err := exec.LookPath("python3"); err == nil {
		parsers = append(parsers, startParser(t, "testdata", python, "cookies.py", subjects))
	} else {
		t.Log("python3 is not installed: the parsers of Python, PHP and Rack are not compared")
	}
	read := func(headers []http.Header) []map[string]string {
		all := make([]map[string]string, len(headers))
		for i := range all {
			all[i] = make(map[string]string)
		}
		for _, p := range parsers {
			for i, found := range p.read(t, headers) {
				for how, subject := range found {
					all[i][how] = subject
				}
			}
		}
		return all
	}
	show := func(h http.Header) string {
		text := strings.Join(h["Cookie"], " | ")
		for token, subject := range subjects {
			text = strings.ReplaceAll(text, token, "<"+subject+">")
		}
		return strconv.Quote(text)
	}
	var asked, sessions, beyond, refused, mixed, kept int
	for asked < count && !t.Failed() {
		var questions []*question
		var headers []http.Header
		for range batch {
			q := ask(rd, http.Header{"Cookie": {g.field()}})
			questions = append(questions, q)
			headers = append(headers, q.header, q.stripped, q.forward, q.cleared)
		}
		answers := read(headers)
		for i, q := range questions {
			asked++
			app, stripped, forward, cleared := answers[4*i], answers[4*i+1], answers[4*i+2], answers[4*i+3]
			if len(app) > 0 {
				sessions++
			}
			if q.check.Session.TooLarge {
				refused++
			}
			for how, subject := range stripped {
				t.Errorf("%s: stripped, %s still reads %q", show(q.header), how, subject)
			}
			for how, subject := range forward {
				if strings.HasPrefix(subject, "stale") {
					t.Errorf("%s: from what the app gets, %s, %s reads %q", show(q.header), show(q.forward), how, subject)
				}
			}
			for how, subject := range cleared {
				if strings.HasPrefix(subject, "live") {
					t.Errorf("%s: of what is cleared, %q, %s reads %q", show(q.header), q.check.Ended, how, subject)
				}
			}
			loses := false
			for how, subject := range app {
				if !q.check.Session.TooLarge && !slices.Contains(q.judged, subject) {
					t.Errorf("%s: %s reads %q; judged were %q", show(q.header), how, subject, q.judged)
				}
				if !strings.HasPrefix(subject, "live") {
					continue
				}
				if q.check.Verdict == verdict.Stale {
					t.Errorf("%s: %s reads %q, and the session ends", show(q.header), how, subject)
				}
				loses = loses || forward[how] != subject
			}
			if loses {
				kept++
			}
			if q.check.Dissent != nil {
				mixed++
			}
			if slices.ContainsFunc(q.judged, func(subject string) bool {
				for _, s := range app {
					if s == subject {
						return false
					}
				}
				return true
			}) {
				beyond++
			}
		}
	}
	t.Logf("%d headers: a session is read from %d; %d had one judged that nobody reads, %d were too large; %d had live and stale ones, and of a live one %d times some parser could read no more", asked, sessions, beyond, refused, mixed, kept)
	if sessions < asked/4 || beyond > asked/2 {
		t.Error("the headers are not worth much")
	}
}
