package session

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

const (
	secret = "a secret"
	v4Name = "next-auth.session-token"
	v5Name = "authjs.session-token"
)

// v4 returns a token of NextAuth v4 for a subject.
func v4(t testing.TB, subject string) string {
	t.Helper()
	token, err := mint.V4(secret, map[string]any{"sub": subject})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// v5 returns a token of Auth.js v5 for a subject and a cookie name.
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

// read reads the session of a request.
func read(rd *Reader, header http.Header) *Session {
	s := new(Session)
	rd.Read(header, s)
	return s
}

// subjects returns the sorted subjects of the tokens of a session.
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
		"the exact name next to a stale chunk, which custom code reads alone": {
			http.Header{"Cookie": {v4Name + "=" + ada + "; " + v4Name + ".0=old"}}, []string{"ada"}, []string{v4Name, v4Name + ".0"}, "",
		},
		"an empty cookie next to chunks": {
			http.Header{"Cookie": {v4Name + "=; " + v4Name + ".0=" + ada}}, []string{"ada"}, []string{v4Name, v4Name + ".0"}, "",
		},
		"an empty cookie": {
			http.Header{"Cookie": {v4Name + "="}}, nil, []string{v4Name}, "",
		},
		"duplicate names: the first is a token": {
			http.Header{"Cookie": {v4Name + "=" + ada + "; " + v4Name + "=x"}}, []string{"ada"}, []string{v4Name}, "",
		},
		"duplicate names: the last is a token": {
			http.Header{"Cookie": {v4Name + "=x; " + v4Name + "=" + ada}}, []string{"ada"}, []string{v4Name}, "",
		},
		"duplicate names: both are tokens": {
			http.Header{"Cookie": {v4Name + "=" + ada + "; " + v4Name + "=" + bob}}, []string{"ada", "bob"}, []string{v4Name}, "",
		},
		"duplicates with the same value": {
			http.Header{"Cookie": {v4Name + "=" + ada + "; " + v4Name + "=" + ada}}, []string{"ada"}, []string{v4Name}, "",
		},
		"duplicate chunks": {
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
		"Bearer next to an undecodable cookie of the other version": {
			http.Header{"Cookie": {v5Name + "=x"}, "Authorization": {"Bearer " + ada}}, []string{"ada"}, []string{v5Name}, "",
		},
		"Bearer next to a cookie": {
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
		"64 KiB in one":            {"Cookie": {stale + v5Name + "=" + strings.Repeat("x", 64<<10)}},
		"64 KiB in several":        {"Cookie": {stale + v5Name + ".0=" + strings.Repeat("x", 40<<10), v5Name + ".1=" + strings.Repeat("x", 40<<10)}},
		"64 of one name":           {"Cookie": {stale + many}},
		"64 KiB, next to a Bearer": {"Cookie": {v5Name + "=" + strings.Repeat("x", 65<<10)}, "Authorization": {"Bearer " + v4(t, "ada")}},
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
