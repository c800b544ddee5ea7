package session

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

const (
	secret = "a secret"
	v4Name = "next-auth.session-token"
	v5Name = "authjs.session-token"
)

// v4 makes a token of NextAuth v4 for a subject.
func v4(t testing.TB, subject string) string {
	t.Helper()
	token, err := mint.V4(secret, map[string]any{"sub": subject})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// v5 makes a token of Auth.js v5 for a subject and a cookie name.
func v5(t testing.TB, name, subject string) string {
	t.Helper()
	token, err := mint.V5(secret, name, map[string]any{"sub": subject})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newReader(t testing.TB, config Config) *Reader {
	t.Helper()
	if config.Secrets == nil && config.PublicKeys == nil && config.JWKS == nil {
		config.Secrets = []string{secret}
	}
	rd, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return rd
}

// read reads a request.
func read(rd *Reader, header http.Header) *Session {
	s := new(Session)
	rd.Read(header, s)
	return s
}

// subjects are those of the tokens of a session, sorted.
func subjects(s *Session) []string {
	var all []string
	for _, token := range s.Tokens {
		all = append(all, string(token.Claims.Subject))
	}
	slices.Sort(all)
	return all
}

func TestEveryLayoutOfCookiesThatAnAppCanRead(t *testing.T) {
	ada, bob := v4(t, "ada"), v4(t, "bob")
	five := v5(t, v5Name, "five")
	percent := strings.ReplaceAll(url.QueryEscape(ada), "e", "%65")
	third := len(ada) / 3
	a, b, c := ada[:third], ada[third:2*third], ada[2*third:]
	parts := strings.Split(ada, ".")
	sprinkled := parts[0] + ".." + parts[2] + "!." + parts[3][:10] + " ,\xe9" + parts[3][10:] + "." + parts[4] + "==&%"

	for name, tc := range map[string]struct {
		header   http.Header
		subjects []string
		names    []string
		failure  Failure
	}{
		"no cookie at all": {http.Header{}, nil, nil, ""},
		"only other cookies": {
			http.Header{"Cookie": {"a=b; next-auth.csrf-token=x; next-auth.callback-url=y; theme=dark"}}, nil, nil, "",
		},
		"the whole token": {
			http.Header{"Cookie": {v4Name + "=" + ada}}, []string{"ada"}, []string{v4Name}, "",
		},
		"among others": {
			http.Header{"Cookie": {"a=b; " + v4Name + "=" + ada + "; c=d"}}, []string{"ada"}, []string{v4Name}, "",
		},
		"the __Secure- name": {
			http.Header{"Cookie": {"__Secure-" + v4Name + "=" + ada}}, []string{"ada"}, []string{"__Secure-" + v4Name}, "",
		},
		"the __Host- name of v5": {
			http.Header{"Cookie": {"__Host-" + v5Name + "=" + v5(t, "__Host-"+v5Name, "host")}}, []string{"host"}, []string{"__Host-" + v5Name}, "",
		},
		"a v5 token under another of its names, which its key does not open": {
			http.Header{"Cookie": {"__Secure-" + v5Name + "=" + five}}, nil, []string{"__Secure-" + v5Name}, Undecodable,
		},
		"a v5 token made for the v4 name": {
			http.Header{"Cookie": {v4Name + "=" + v5(t, v4Name, "kept")}}, []string{"kept"}, []string{v4Name}, "",
		},
		"two chunks": {
			http.Header{"Cookie": {v4Name + ".0=" + ada[:third] + "; " + v4Name + ".1=" + ada[third:]}}, []string{"ada"}, []string{v4Name + ".0", v4Name + ".1"}, "",
		},
		"chunks in any order": {
			http.Header{"Cookie": {v4Name + ".2=" + c + "; " + v4Name + ".0=" + a + "; " + v4Name + ".1=" + b}},
			[]string{"ada"},
			[]string{v4Name + ".2", v4Name + ".0", v4Name + ".1"},
			"",
		},
		"chunks 9, 10 and 11, by number": {
			http.Header{"Cookie": {v4Name + ".10=" + b + "; " + v4Name + ".11=" + c + "; " + v4Name + ".9=" + a}},
			[]string{"ada"},
			[]string{v4Name + ".10", v4Name + ".11", v4Name + ".9"},
			"",
		},
		"a chunk is missing": {
			http.Header{"Cookie": {v4Name + ".0=" + a + "; " + v4Name + ".2=" + c}}, nil, []string{v4Name + ".0", v4Name + ".2"}, Undecodable,
		},
		"a lone chunk 7": {
			http.Header{"Cookie": {v4Name + ".7=" + ada}}, []string{"ada"}, []string{v4Name + ".7"}, "",
		},
		"halves under names of their own": {
			http.Header{"Cookie": {v4Name + "-a=" + ada[:third] + "; " + v4Name + "-b=" + ada[third:]}}, []string{"ada"}, []string{v4Name + "-a", v4Name + "-b"}, "",
		},
		"the exact name beside a stale chunk, which custom code reads alone": {
			http.Header{"Cookie": {v4Name + "=" + ada + "; " + v4Name + ".0=old"}}, []string{"ada"}, []string{v4Name, v4Name + ".0"}, "",
		},
		"an empty cookie beside chunks": {
			http.Header{"Cookie": {v4Name + "=; " + v4Name + ".0=" + ada}}, []string{"ada"}, []string{v4Name, v4Name + ".0"}, "",
		},
		"an empty cookie": {
			http.Header{"Cookie": {v4Name + "="}}, nil, []string{v4Name}, "",
		},
		"doubled: the first is a token": {
			http.Header{"Cookie": {v4Name + "=" + ada + "; " + v4Name + "=x"}}, []string{"ada"}, []string{v4Name}, "",
		},
		"doubled: the last is a token": {
			http.Header{"Cookie": {v4Name + "=x; " + v4Name + "=" + ada}}, []string{"ada"}, []string{v4Name}, "",
		},
		"doubled: both are": {
			http.Header{"Cookie": {v4Name + "=" + ada + "; " + v4Name + "=" + bob}}, []string{"ada", "bob"}, []string{v4Name}, "",
		},
		"doubled and the same": {
			http.Header{"Cookie": {v4Name + "=" + ada + "; " + v4Name + "=" + ada}}, []string{"ada"}, []string{v4Name}, "",
		},
		"doubled chunks": {
			http.Header{"Cookie": {v4Name + ".0=" + a + "; " + v4Name + ".0=x; " + v4Name + ".1=" + b + c}}, []string{"ada"}, []string{v4Name + ".0", v4Name + ".1"}, "",
		},
		"both versions at once": {
			http.Header{"Cookie": {v4Name + "=" + ada + "; " + v5Name + "=" + five}}, []string{"ada", "five"}, []string{v4Name, v5Name}, "",
		},
		"percent-encoded": {
			http.Header{"Cookie": {v4Name + "=" + percent}}, []string{"ada"}, []string{v4Name}, "",
		},
		"quoted": {
			http.Header{"Cookie": {v4Name + `="` + ada + `"`}}, []string{"ada"}, []string{v4Name}, "",
		},
		"quoted at the beginning only, which costs the last character": {
			http.Header{"Cookie": {v4Name + `="` + ada + `?`}}, []string{"ada"}, []string{v4Name}, "",
		},
		"blanks wherever they can be": {
			http.Header{"Cookie": {"a=b ;\t " + v4Name + " \t= " + ada + " \t;c=d"}}, []string{"ada"}, []string{v4Name}, "",
		},
		"a no-break space, which older readers trim": {
			http.Header{"Cookie": {"a=b;\xa0" + v4Name + "\xa0=\xa0" + ada}}, []string{"ada"}, []string{v4Name}, "",
		},
		"sprinkled with characters that Node's base64 passes over": {
			http.Header{"Cookie": {v4Name + "=" + sprinkled}}, []string{"ada"}, []string{v4Name}, "",
		},
		"no blank after the semicolon": {
			http.Header{"Cookie": {"a=b;" + v4Name + "=" + ada + ";c=d"}}, []string{"ada"}, []string{v4Name}, "",
		},
		"several Cookie lines": {
			http.Header{"Cookie": {"a=b; " + v4Name + ".1=" + b + c, v4Name + ".0=" + a}}, []string{"ada"}, []string{v4Name + ".1", v4Name + ".0"}, "",
		},
		"Bearer": {
			http.Header{"Authorization": {"Bearer " + ada}}, []string{"ada"}, nil, "",
		},
		"Bearer, percent-encoded": {
			http.Header{"Authorization": {"Bearer " + percent}}, []string{"ada"}, nil, "",
		},
		"Bearer of v5": {
			http.Header{"Authorization": {"Bearer " + v5(t, "__Secure-"+v5Name, "five")}}, []string{"five"}, nil, "",
		},
		"Bearer in another case": {
			http.Header{"Authorization": {"bearer " + ada}}, []string{"ada"}, nil, "",
		},
		"Bearer beside an undecodable cookie of the other version": {
			http.Header{"Cookie": {v5Name + "=x"}, "Authorization": {"Bearer " + ada}}, []string{"ada"}, []string{v5Name}, "",
		},
		"Bearer beside a cookie": {
			http.Header{"Cookie": {v4Name + "=" + bob}, "Authorization": {"Bearer " + ada}}, []string{"ada", "bob"}, []string{v4Name}, "",
		},
		"somebody else's Bearer": {
			http.Header{"Authorization": {"Bearer sk_live_123", "Basic YTpi", "Bearer"}}, nil, nil, "",
		},
		"a database session's id": {
			http.Header{"Cookie": {v4Name + "=5c5b1f0e-8d3c-4d6e-9a43-3b1f5f4d2c11"}}, nil, []string{v4Name}, Undecodable,
		},
		"no equals sign": {
			http.Header{"Cookie": {v4Name + "; a=b"}}, nil, []string{v4Name}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := tc.header.Clone()
			s := read(newReader(t, Config{}), tc.header)
			if !slices.Equal(subjects(s), tc.subjects) || !slices.Equal(s.Names, tc.names) || s.Failure != tc.failure {
				t.Errorf("read subjects %q, names %q, failure %q; want %q, %q, %q", subjects(s), s.Names, s.Failure, tc.subjects, tc.names, tc.failure)
			}
			for field, lines := range before {
				if !slices.Equal(tc.header[field], lines) {
					t.Errorf("reading changed %s", field)
				}
			}
		})
	}
}

func TestATokenKnowsItsCookies(t *testing.T) {
	ada, bob := v4(t, "ada"), v4(t, "bob")
	s := read(newReader(t, Config{}), http.Header{"Cookie": {
		v4Name + "=" + ada + "; " + v5Name + ".0=" + bob[:50] + "; " + v5Name + ".1=" + bob[50:],
	}, "Authorization": {"Bearer " + v4(t, "eve")}})
	got := make(map[string][]string)
	for _, token := range s.Tokens {
		got[string(token.Claims.Subject)] = token.Names
	}
	if !slices.Equal(got["ada"], []string{v4Name}) || !slices.Equal(got["bob"], []string{v5Name + ".0", v5Name + ".1"}) || len(got["eve"]) != 0 || len(got) != 3 {
		t.Errorf("tokens of %v", got)
	}
}

func TestCookieNamesOfOnesOwn(t *testing.T) {
	rd := newReader(t, Config{CookieNames: []string{"sid", "my-app.session"}})
	s := read(rd, http.Header{"Cookie": {"sid=" + v4(t, "ada") + "; my-app.session=" + v5(t, "my-app.session", "bob") + "; " + v4Name + "=" + v4(t, "eve")}})
	if want := []string{"ada", "bob"}; !slices.Equal(subjects(s), want) || !slices.Equal(s.Names, []string{"sid", "my-app.session"}) {
		t.Errorf("read %q from %q", subjects(s), s.Names)
	}
}

func TestOversizedCookiesAreNotLookedAt(t *testing.T) {
	stale := v4Name + "=" + v4(t, "ada") + "; "
	many := strings.Repeat(v4Name+".1=x; ", maxCookies+1)
	for name, header := range map[string]http.Header{
		"64 KiB in one":           {"Cookie": {stale + v5Name + "=" + strings.Repeat("x", 64<<10)}},
		"64 KiB in several":       {"Cookie": {stale + v5Name + ".0=" + strings.Repeat("x", 40<<10), v5Name + ".1=" + strings.Repeat("x", 40<<10)}},
		"64 of one name":          {"Cookie": {stale + many}},
		"64 KiB, beside a Bearer": {"Cookie": {v5Name + "=" + strings.Repeat("x", 65<<10)}, "Authorization": {"Bearer " + v4(t, "ada")}},
	} {
		t.Run(name, func(t *testing.T) {
			s := read(newReader(t, Config{}), header)
			if !s.TooLarge || s.Failure != TooLarge || len(s.Tokens) != 0 {
				t.Errorf("read %+v", s)
			}
		})
	}
}

func TestRotatedSecrets(t *testing.T) {
	rd := newReader(t, Config{Secrets: []string{"new", secret}})
	for name, token := range map[string]string{v4Name: v4(t, "ada"), v5Name: v5(t, v5Name, "ada")} {
		if s := read(rd, http.Header{"Cookie": {name + "=" + token}}); len(s.Tokens) != 1 {
			t.Errorf("%s made with the old secret: %s", name, s.Failure)
		}
	}
	retired := newReader(t, Config{Secrets: []string{"new"}})
	for name, token := range map[string]string{v4Name: v4(t, "ada"), v5Name: v5(t, v5Name, "ada")} {
		if s := read(retired, http.Header{"Cookie": {name + "=" + token}}); len(s.Tokens) != 0 || s.Failure != Undecodable {
			t.Errorf("%s made with a retired secret was read", name)
		}
	}
}

func TestClaimsThatTheLibrariesCheck(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) float64 { return float64(now.Add(d).Unix()) }
	for name, c := range map[string]struct {
		claims  map[string]any
		failure Failure
	}{
		"expires in a second":            {map[string]any{"exp": at(time.Second)}, ""},
		"expired 14 seconds ago":         {map[string]any{"exp": at(-14 * time.Second)}, ""},
		"expired 15 seconds ago":         {map[string]any{"exp": at(-15 * time.Second)}, Expired},
		"never expires":                  {map[string]any{"exp": nil}, ""},
		"expires at 0":                   {map[string]any{"exp": 0}, Expired},
		"expires in the farthest future": {map[string]any{"exp": 1e300}, ""},
		"expiry as text":                 {map[string]any{"exp": "4102444800"}, Undecodable},
		"begins in 15 seconds":           {map[string]any{"exp": nil, "nbf": at(15 * time.Second)}, ""},
		"begins in 16 seconds":           {map[string]any{"exp": nil, "nbf": at(16 * time.Second)}, Undecodable},
		"issued in the future":           {map[string]any{"exp": nil, "iat": at(time.Hour)}, ""},
		"issued at no number":            {map[string]any{"exp": nil, "iat": true}, Undecodable},
		"the wrong issuer":               {map[string]any{"exp": nil, "iss": "other"}, Undecodable},
		"one of several audiences":       {map[string]any{"exp": nil, "aud": []string{"x", "me"}}, ""},
		"the wrong audience":             {map[string]any{"exp": nil, "aud": []string{"x"}}, Undecodable},
		"no audience":                    {map[string]any{"exp": nil, "aud": nil}, Undecodable},
	} {
		t.Run(name, func(t *testing.T) {
			claims := map[string]any{"iss": "issuer", "aud": "me"}
			for k, v := range c.claims {
				claims[k] = v
			}
			token, err := mint.V4(secret, claims)
			if err != nil {
				t.Fatal(err)
			}
			rd := newReader(t, Config{Issuer: "issuer", Audience: "me", Now: func() time.Time { return now }})
			if s := read(rd, http.Header{"Cookie": {v4Name + "=" + token}}); s.Failure != c.failure || (len(s.Tokens) == 1) != (c.failure == "") {
				t.Errorf("failure %q, want %q", s.Failure, c.failure)
			}
		})
	}
}

func TestWhatIsTakenFromThePayload(t *testing.T) {
	iat := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	login := iat.Add(-time.Hour)
	for name, c := range map[string]struct {
		claims   map[string]any
		subject  string
		issuedAt time.Time
		match    map[string]string
	}{
		"text, seconds":        {map[string]any{"id": "x", "loginAt": login.Unix()}, "x", login, nil},
		"number, milliseconds": {map[string]any{"id": 7, "loginAt": login.UnixMilli()}, "7", login, nil},
		"RFC 3339":             {map[string]any{"id": -7, "loginAt": login.Format(time.RFC3339)}, "-7", login, nil},
		"no time of sign-in":   {map[string]any{"id": "x"}, "x", iat, nil},
		"fraction as id":       {map[string]any{"id": 1.5}, "", iat, nil},
		"object as id":         {map[string]any{"id": map[string]any{"a": 1}}, "", iat, nil},
		"boolean as id":        {map[string]any{"id": true}, "", iat, nil},
		"claims to match": {
			map[string]any{"id": "x", "email": "a@b.c", "v": 3, "user": map[string]any{"admin": true}, "none": nil, "empty": ""},
			"x", iat,
			map[string]string{"email": "a@b.c", "v": "3", "user.admin": "true", "empty": ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.claims["iat"] = iat.Unix()
			token, err := mint.V4(secret, c.claims)
			if err != nil {
				t.Fatal(err)
			}
			paths := []string{"email", "v", "user.admin", "none", "user", "empty"}
			rd := newReader(t, Config{Subject: "id", IssuedAt: "loginAt", Match: paths})
			for _, how := range []string{"decrypted", "remembered"} {
				s := read(rd, http.Header{"Cookie": {v4Name + "=" + token}})
				if len(s.Tokens) != 1 {
					t.Fatal(s.Failure)
				}
				got := s.Tokens[0].Claims
				if string(got.Subject) != c.subject || !got.IssuedAt.Equal(c.issuedAt) || len(got.Match) != len(paths) {
					t.Errorf("%s: got %+v, want %+v", how, got, c)
				}
				for i, path := range paths {
					want, claimed := c.match[path]
					if string(got.Match[i]) != want || (got.Match[i] != nil) != claimed {
						t.Errorf("%s: %s is %q, want %q", how, path, got.Match[i], want)
					}
				}
			}
		})
	}
}

func TestConfigurationsThatCannotBeRight(t *testing.T) {
	for name, c := range map[string]Config{
		"no key":             {},
		"an empty secret":    {Secrets: []string{"a", ""}},
		"an empty name":      {Secrets: []string{"a"}, CookieNames: []string{""}},
		"a name with blanks": {Secrets: []string{"a"}, CookieNames: []string{"a b"}},
		"a name with =":      {Secrets: []string{"a"}, CookieNames: []string{"a=b"}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	rd := newReader(b, Config{})
	for name, c := range map[string]struct{ base, token string }{
		"v4": {v4Name, v4(b, "clx0a1b2c0000qwer1234tyui")},
		"v5": {v5Name, v5(b, v5Name, "clx0a1b2c0000qwer1234tyui")},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, failure := rd.open(c.base, c.token); failure != "" {
					b.Fatal(failure)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	rd := newReader(b, Config{})
	for name, line := range map[string]string{
		"no session": "theme=dark; _ga=GA1.2.3; next-auth.csrf-token=abc",
		"v4":         "theme=dark; " + v4Name + "=" + v4(b, "clx0a1b2c0000qwer1234tyui"),
		"v5":         "theme=dark; " + v5Name + "=" + v5(b, v5Name, "clx0a1b2c0000qwer1234tyui"),
		"garbage":    v4Name + "=" + strings.Repeat("x", 4096),
	} {
		b.Run(name, func(b *testing.B) {
			header := http.Header{"Cookie": {line}}
			b.ReportAllocs()
			s := new(Session)
			for b.Loop() {
				*s = Session{}
				rd.Read(header, s)
			}
		})
	}
}
