package session

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStripLeavesOtherCookiesByteForByte(t *testing.T) {
	token := v4(t, "ada")
	for name, c := range map[string]struct {
		cookie, authorization []string
		want, keeps           []string
	}{
		"nothing":             {nil, nil, nil, nil},
		"only others":         {[]string{`a=b;  c="d e" ;f`}, nil, []string{`a=b;  c="d e" ;f`}, nil},
		"alone":               {[]string{v4Name + "=x"}, nil, nil, nil},
		"first":               {[]string{v4Name + "=x; a=b"}, nil, []string{"a=b"}, nil},
		"in the middle":       {[]string{"a=b; " + v4Name + "=x;c=d"}, nil, []string{"a=b;c=d"}, nil},
		"last":                {[]string{"a=b;  c=%41; " + v4Name + "=x"}, nil, []string{"a=b;  c=%41"}, nil},
		"all kinds of them":   {[]string{v4Name + ".0=x; " + v5Name + "; __Host-" + v5Name + "-x =\ty; a=b;;\xa0" + v4Name + "=z"}, nil, []string{"a=b;"}, nil},
		"one line of two":     {[]string{v4Name + "=x", "a=b"}, nil, []string{"a=b"}, nil},
		"only blanks left":    {[]string{" ; ;" + v4Name + "=x; "}, nil, nil, nil},
		"names that only end": {[]string{"x-" + v4Name + "=1; next-auth.csrf-token=2"}, nil, []string{"x-" + v4Name + "=1; next-auth.csrf-token=2"}, nil},
		"our Bearer":          {nil, []string{"Bearer " + token}, nil, nil},
		"another Bearer":      {nil, []string{"Bearer sk_1", "Basic x"}, nil, []string{"Bearer sk_1", "Basic x"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			if c.cookie != nil {
				h["Cookie"] = c.cookie
			}
			if c.authorization != nil {
				h["Authorization"] = c.authorization
			}
			shared := h.Clone()
			cookies := slices.Clone(c.cookie)
			newReader(t, Config{}).Strip(h)
			if !slices.Equal(h["Cookie"], c.want) || !slices.Equal(h["Authorization"], c.keeps) {
				t.Errorf("left %q and %q, want %q and %q", h["Cookie"], h["Authorization"], c.want, c.keeps)
			}
			if !slices.Equal(c.cookie, cookies) || !slices.Equal(shared["Cookie"], cookies) {
				t.Error("the slices that others may hold were changed")
			}
		})
	}
}

func TestTheSessionsThatAResponseSets(t *testing.T) {
	token := v4(t, "ada")
	now := time.Now()
	for name, c := range map[string]struct {
		set      []string
		names    []string
		subjects []string
		left     []string
	}{
		"none":                              {[]string{"theme=dark; Path=/"}, nil, nil, []string{"theme=dark; Path=/"}},
		"one":                               {[]string{v4Name + "=" + token + "; Path=/; HttpOnly"}, []string{v4Name}, []string{"ada"}, nil},
		"chunks":                            {[]string{v4Name + ".0=" + token[:9] + "; Path=/", v4Name + ".1=" + token[9:] + "; Path=/"}, []string{v4Name + ".0", v4Name + ".1"}, []string{"ada"}, nil},
		"a deletion":                        {[]string{v4Name + "=; Max-Age=0; Path=/"}, []string{v4Name}, nil, []string{v4Name + "=; Max-Age=0; Path=/"}},
		"a deletion that still has a value": {[]string{v4Name + "=" + token + "; max-age=-1"}, []string{v4Name}, nil, []string{v4Name + "=" + token + "; max-age=-1"}},
		"a deletion by date":                {[]string{v4Name + "=" + token + "; Expires=" + now.Add(-time.Hour).UTC().Format(http.TimeFormat)}, []string{v4Name}, nil, []string{v4Name + "=" + token + "; Expires=" + now.Add(-time.Hour).UTC().Format(http.TimeFormat)}},
		"Max-Age goes before Expires":       {[]string{v4Name + "=" + token + "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60"}, []string{v4Name}, []string{"ada"}, nil},
		"shrunk from chunks":                {[]string{v4Name + ".0=; Max-Age=0", v4Name + "=" + token}, []string{v4Name + ".0", v4Name}, []string{"ada"}, []string{v4Name + ".0=; Max-Age=0"}},
		"something else":                    {[]string{v4Name + "=abc"}, []string{v4Name}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			rd := newReader(t, Config{})
			h := http.Header{"Set-Cookie": c.set}
			s := new(Session)
			rd.ReadResponse(h, nil, s)
			if !slices.Equal(s.Names, c.names) || !slices.Equal(subjects(s), c.subjects) {
				t.Errorf("names %q, subjects %q; want %q, %q", s.Names, subjects(s), c.names, c.subjects)
			}
			rd.StripSetCookies(h)
			if !slices.Equal(h["Set-Cookie"], c.left) {
				t.Errorf("left %q, want %q", h["Set-Cookie"], c.left)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	token := v4(f, "ada")
	for _, line := range []string{
		v4Name + "=" + token, v4Name + ".0=a; " + v4Name + ".1=b", v5Name + "=\"%\"; " + v5Name + "-x==;;", "a=b", "\xa0" + v4Name + "\xa0=\xa0",
		v4Name + "=" + token[:20] + "; " + v4Name + ".x=%C3%28",
	} {
		f.Add(line, "Bearer "+token)
	}
	ours := newReader(f, Config{})
	other := newReader(f, Config{Secrets: []string{"another secret"}})
	f.Fuzz(func(t *testing.T, line, authorization string) {
		h := http.Header{"Cookie": {line}, "Authorization": {authorization}}
		if s := read(other, h); len(s.Tokens) != 0 {
			t.Errorf("a token was read with the wrong secret from %q", line)
		}
		others := make([]string, 0)
		for pair := range strings.SplitSeq(line, ";") {
			if !ours.holdsSession(pair) {
				others = append(others, pair)
			}
		}
		ours.Strip(h)
		if s := read(ours, h); len(s.Names) != 0 || len(s.Tokens) != 0 {
			t.Errorf("after stripping, %q still holds %q", h["Cookie"], s.Names)
		}
		var left []string
		for _, line := range h["Cookie"] {
			left = append(left, strings.Split(line, ";")...)
		}
		for _, pair := range others {
			if strings.Contains(pair, "=") && !slices.ContainsFunc(left, func(kept string) bool { return strings.Trim(kept, " ") == strings.Trim(pair, " ") }) {
				t.Errorf("%q lost %q: %q", line, pair, h["Cookie"])
			}
		}
		ours.ReadResponse(http.Header{"Set-Cookie": {line, authorization}}, nil, new(Session))
	})
}
