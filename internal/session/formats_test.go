package session

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
)

// plain is a format whose cookies say `<kind>:<subject>`: an id and its cache, beside
// a header.
type plain struct {
	decoded    atomic.Int64
	generation atomic.Uint64
}

func (*plain) Owns(name, _ string) bool {
	return name == "id" || name == "cached" || formats.IsChunk(name, "cached", ".")
}
func (*plain) Headers() []string    { return []string{"x-session"} }
func (p *plain) Generation() uint64 { return p.generation.Load() }

func (*plain) Readings(parts []formats.Part) (all []formats.Reading) {
	for i, p := range parts {
		if p.Header != "" {
			all = append(all, formats.Reading{Text: p.Value, Parts: []int{i}})
		}
	}
	ids := formats.Values(parts, "id")
	for _, cached := range append(formats.Values(parts, "cached"), formats.Joined(parts, "cached", ".", false)...) {
		r := formats.Reading{Text: cached.Text, Parts: cached.Parts, Doubtful: cached.Parts}
		for _, id := range ids {
			r.Parts = append(r.Parts, id.Parts...)
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return ids
	}
	return all
}

func (p *plain) Decode(text string, now time.Time) (formats.Session, error) {
	p.decoded.Add(1)
	kind, subject, _ := strings.Cut(text, ":")
	s := formats.Session{Subject: subject, Claims: map[string]any{"user": subject}, MadeAt: now.Add(-time.Minute), ExpiresAt: now.Add(time.Hour)}
	switch kind {
	case "valid":
		return s, nil
	case "doubtful":
		s.Doubtful = true
		return s, nil
	case "asked":
		return formats.Session{AppAsks: true}, nil
	case "padded":
		s.Canonical = "valid:" + strings.TrimRight(subject, "=")
		s.Subject = strings.TrimRight(subject, "=")
		return s, nil
	case "guessed":
		s.Guessed = true
		return s, nil
	case "nobody":
		return formats.Session{}, formats.ErrNobody
	case "expired":
		return formats.Session{}, formats.ErrExpired
	case "later":
		return formats.Session{}, formats.ErrKeysUnavailable
	}
	return formats.Session{}, formats.ErrInvalid
}

// readPlain reads a request.
func readPlain(rd *Reader, cookies, header string) *Session {
	h := http.Header{"Cookie": {cookies}}
	if header != "" {
		h["X-Session"] = []string{header}
	}
	s := new(Session)
	rd.Read(h, s)
	return s
}

func TestASessionOfAnotherFormatIsRead(t *testing.T) {
	t.Parallel()
	rd, err := New(Config{Formats: []formats.Format{new(plain)}, Match: []string{"user"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	for name, c := range map[string]struct {
		cookies, header string
		subjects        string // of the tokens; - for one that the app asks for
		names           string // of the cookies that hold the first
		failure         Failure
	}{
		"no cookie of its own":         {"theme=dark; ids=valid:ada", "", "", "", ""},
		"one":                          {"theme=dark; id=valid:ada", "", "ada", "id", ""},
		"one in chunks":                {"cached.1=:ada; cached.0=valid; cached.x=1", "", "ada", "cached.0 cached.1", ""},
		"one in two cookies":           {"id=asked:; cached=valid:ada", "", "ada", "cached id", ""},
		"doubtful in two cookies":      {"id=asked:; cached=doubtful:ada", "", "ada", "cached", ""},
		"the first and the last":       {"id=valid:ada; id=valid:bob", "", "ada bob", "id", ""},
		"one that the app asks for":    {"id=asked:", "", "-", "id", ""},
		"in a field":                   {"", "valid:ada", "ada", "", ""},
		"in a field and a cookie":      {"cached=valid:bob", "valid:ada", "ada bob", "", ""},
		"in which nobody is signed in": {"id=nobody:", "", "", "", ""},
		"a forged one beside that":     {"id=nobody:; id=forged", "", "", "", Undecodable},
		"expired":                      {"id=expired:ada", "", "", "", Expired},
		"forged":                       {"id=ada", "", "", "", Undecodable},
		"forged, in a field":           {"", "ada", "", "", ""},
		"before the keys are there":    {"id=later:", "", "", "", KeysUnavailable},
		"percent-encoded, and quoted":  {`id="valid%3Aada"`, "", "ada", "id", ""},
	} {
		for range 2 { // from the caches, too
			s := readPlain(rd, c.cookies, c.header)
			var subjects []string
			for _, token := range s.Tokens {
				if token.Claims.AppAsks {
					subjects = append(subjects, "-")
				} else {
					subjects = append(subjects, string(token.Claims.Subject))
				}
			}
			if strings.Join(subjects, " ") != c.subjects || s.Failure != c.failure || s.TooLarge {
				t.Errorf("%s: %q, failure %q, too large %t", name, subjects, s.Failure, s.TooLarge)
				continue
			}
			if len(s.Tokens) == 0 {
				continue
			}
			first := s.Tokens[0]
			if strings.Join(first.Names, " ") != c.names {
				t.Errorf("%s: held by %q", name, first.Names)
			}
			if !first.Claims.AppAsks && string(first.Claims.Match[0]) != string(first.Claims.Subject) {
				t.Errorf("%s: matches %q", name, first.Claims.Match)
			}
		}
	}
}

// TestASessionThatSomeParserReadsIsRead has cookies with the same name, of which parsers
// choose different ones.
func TestASessionThatSomeParserReadsIsRead(t *testing.T) {
	t.Parallel()
	rd, err := New(Config{Formats: []formats.Format{new(plain)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	for name, cookies := range map[string]string{
		"the first of one chunk, the last of another": "cached.0=valid; cached.0 =x; cached.1=x; cached.1=:ada",
		"the last that can be decoded":                "cached.0=x; cached.0=valid; cached.0=%zz; cached.1=:ada",
		"the first whose name is as it should be":     "cached.0\v=x; cached.0=valid; cached.0=x; cached.1=:ada",
		"the first that has a value":                  "cached.0; cached.0=valid; cached.0=x; cached.1=:ada",
		"with a quote that belongs to the session":    `cached.0=valid:; cached.1="ada; cached.1=x`,
		"with quotes that belong to it, in pairs":     `cached.0=valid:; cached.1="ada"; cached.1=x`,
	} {
		s := readPlain(rd, "a=1; "+cookies+"; b=2", "")
		subjects := make(map[string]bool)
		for _, token := range s.Tokens {
			subjects[strings.Trim(string(token.Claims.Subject), `"`)] = true
			if got := strings.Join(token.Names, " "); got != "cached.0 cached.1" {
				t.Errorf("%s: held by %q", name, got)
			}
		}
		if !subjects["ada"] {
			t.Errorf("%s: %v", name, subjects)
		}
	}
}

func TestWhatHoldsASessionOfAnotherFormatIsRemoved(t *testing.T) {
	t.Parallel()
	rd, err := New(Config{Formats: []formats.Format{new(plain)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	header := func() http.Header {
		return http.Header{"Cookie": {"a=1; id=asked:; cached.0=doubtful; cached.1=:ada; b=2"}, "X-Session": {"valid:ada", "else"}, "Authorization": {"Basic x"}}
	}
	h := header()
	s := new(Session)
	rd.Read(h, s)
	rd.Remove(h, s.Tokens, func(int) bool { return true })
	if h.Get("Cookie") != "a=1; id=asked:; b=2" || !slices.Equal(h["X-Session"], []string{"else"}) || h.Get("Authorization") == "" {
		t.Errorf("removed: left %q", h)
	}
	h = header()
	rd.Strip(h)
	if h.Get("Cookie") != "a=1; b=2" || h["X-Session"] != nil || h.Get("Authorization") == "" {
		t.Errorf("stripped: left %q", h)
	}
	h = http.Header{"Set-Cookie": {"id=valid:ada; Path=/", "id=; Max-Age=0", "a=1"}}
	rd.StripSetCookies(h)
	if !slices.Equal(h["Set-Cookie"], []string{"id=; Max-Age=0", "a=1"}) {
		t.Errorf("of a response: left %q", h)
	}
	if fields := rd.RequestFields(); !slices.Equal(fields, []string{"Cookie", "Authorization", "X-Session"}) {
		t.Errorf("fields %q", fields)
	}
}

func TestASessionThatAResponseSetsInAnotherFormatIsRead(t *testing.T) {
	t.Parallel()
	rd, err := New(Config{Formats: []formats.Format{new(plain)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	var s Session
	rd.ReadResponse(http.Header{"Set-Cookie": {"cached=valid:ada; Path=/", "cached.0=; Max-Age=0", "theme=dark"}, "X-Session": {"valid:bob"}}, nil, &s)
	if len(s.Tokens) != 1 || string(s.Tokens[0].Claims.Subject) != "ada" || !s.Tokens[0].Claims.Made || strings.Join(s.Names, " ") != "cached cached.0" {
		t.Errorf("%d tokens, names %q", len(s.Tokens), s.Names)
	}
}

func TestATextOfAnotherFormatIsDecodedOnce(t *testing.T) {
	t.Parallel()
	for text, again := range map[string]int64{"valid:ada": 0, "asked:": 0, "guessed:ada": 0, "nobody:": 0, "expired:ada": 0, "forged": 0, "later:": 1, "doubtful:ada": 1} {
		f := new(plain)
		rd, err := New(Config{Formats: []formats.Format{f}})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			readPlain(rd, "id="+text, "")
		}
		if decoded := f.decoded.Load(); decoded != 1+2*again {
			t.Errorf("%s: decoded %d times", text, decoded)
		}
		f.generation.Add(1)
		readPlain(rd, "id="+text, "")
		if decoded := f.decoded.Load(); text == "forged" && decoded != 2 {
			t.Errorf("%s: decoded %d times by other keys", text, decoded)
		}
		rd.Close()
	}
}

// TestATextInManySpellingsIsRememberedOnce has padding that is ignored.
func TestATextInManySpellingsIsRememberedOnce(t *testing.T) {
	t.Parallel()
	rd, err := New(Config{Formats: []formats.Format{new(plain)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	for i := range 20 {
		s := readPlain(rd, "id=padded:ada"+strings.Repeat("=", i), "")
		if len(s.Tokens) != 1 || string(s.Tokens[0].Claims.Subject) != "ada" || s.Tokens[0].Claims.First != (i == 0) {
			t.Fatalf("%d: %+v", i, s.Tokens)
		}
	}
	if entries := rd.Stats().Entries; entries != 1 {
		t.Errorf("%d entries", entries)
	}
}

// TestACookieOfAnotherFormIsNoSessionCookie has cookies with the name of one.
func TestACookieOfAnotherFormIsNoSessionCookie(t *testing.T) {
	t.Parallel()
	rd := newReader(t, Config{Formats: []formats.Format{new(shy)}})
	for cookies, want := range map[string]string{
		"id=else": "", "id=valid:ada": "id", "id=valid:ada; id=else": "id", "id=else; id=valid:ada": "id",
		v4Name + "=x; id=else": v4Name,
	} {
		if s := readPlain(rd, cookies, ""); strings.Join(s.Names, " ") != want {
			t.Errorf("%s: %q", cookies, s.Names)
		}
	}
	var s Session
	rd.ReadResponse(http.Header{"Set-Cookie": {"id=; Max-Age=0", "cached=else"}}, nil, &s)
	if strings.Join(s.Names, " ") != "id cached" {
		t.Errorf("of a response: %q", s.Names)
	}
}

// home is a format whose library has a users table.
type home struct{ plain }

func (*home) UsersTable() string { return "auth.users" }

func TestTheUsersTableIsThatOfTheOnlyFormat(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"alone":                {Config{Formats: []formats.Format{new(home)}}, "auth.users"},
		"with another":         {Config{Formats: []formats.Format{new(home), new(plain)}}, ""},
		"with Auth.js":         {Config{Formats: []formats.Format{new(home)}, Secrets: []string{"x"}}, ""},
		"one that has no home": {Config{Formats: []formats.Format{new(plain)}}, ""},
		"Auth.js":              {Config{Secrets: []string{"x"}}, ""},
	} {
		rd, err := New(c.config)
		if err != nil {
			t.Fatal(err)
		}
		if got := rd.UsersTable(); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
		rd.Close()
	}
}

func TestARequestCausesFewDecodings(t *testing.T) {
	t.Parallel()
	many := func(n int, name string) string {
		var cookies []string
		for i := range n {
			cookies = append(cookies, fmt.Sprintf("%s=forged%d", name, i))
		}
		return strings.Join(cookies, "; ")
	}
	for name, c := range map[string]struct {
		cookies, header string
		tooLarge        bool
	}{
		"as many as allowed": {many(maxSignatures, "cached"), "", false},
		"one more":           {many(maxSignatures+1, "cached"), "", true},
		"too many cookies":   {many(maxCookies+1, "id"), "", true},
		"a large field":      {"", strings.Repeat("x", defaultMaxTokenBytes+1), true},
		"a large cookie":     {"id=" + strings.Repeat("x", defaultMaxTokenBytes+1), "", true},
	} {
		f := new(plain)
		rd, err := New(Config{Formats: []formats.Format{f}})
		if err != nil {
			t.Fatal(err)
		}
		s := readPlain(rd, c.cookies, c.header)
		if decoded := f.decoded.Load(); decoded > maxSignatures || s.TooLarge != c.tooLarge {
			t.Errorf("%s: decoded %d texts, too large %t", name, decoded, s.TooLarge)
		}
		rd.Close()
	}
}

// careless is a format that gives nonsense.
type careless struct{ plain }

func (*careless) Readings(parts []formats.Part) []formats.Reading {
	return []formats.Reading{{Text: "valid:ada", Parts: []int{-1, 0, len(parts), 99}}, {}, {Text: "doubtful:ada", Doubtful: []int{7}}}
}

func TestACarelessFormatBreaksNoRequest(t *testing.T) {
	t.Parallel()
	rd, err := New(Config{Formats: []formats.Format{new(careless)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	s := readPlain(rd, "id=x", "")
	if len(s.Tokens) != 2 || strings.Join(s.Tokens[0].Names, " ") != "id" || s.Tokens[1].Names != nil {
		t.Errorf("%+v", s.Tokens)
	}
	rd.Remove(http.Header{"Cookie": {"id=x"}}, s.Tokens, func(int) bool { return true })
}

func TestFormatsCostARequestWithoutTheirCookiesNothing(t *testing.T) {
	none, all := newReader(t, Config{}), newReader(t, Config{Formats: []formats.Format{new(plain), new(plain), new(plain), new(plain)}})
	header := http.Header{"Cookie": {"theme=dark; a=b; _ga=GA1.2.3"}}
	measure := func(rd *Reader) float64 {
		s := new(Session)
		return testing.AllocsPerRun(100, func() {
			*s = Session{}
			rd.Read(header, s)
		})
	}
	if without, with := measure(none), measure(all); with > without {
		t.Errorf("%.0f allocations, %.0f without formats", with, without)
	}
}

func TestAReaderNeedsAKeyOrAFormat(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("a reader of nothing")
	}
	if _, err := New(Config{Formats: slices.Repeat([]formats.Format{new(plain)}, maxFormats+1)}); err == nil || errors.Is(err, formats.ErrNoKey) {
		t.Errorf("too many formats: error %v", err)
	}
}
