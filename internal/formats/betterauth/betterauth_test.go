package betterauth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// seen is what a reader sees in a request: the subjects, followed by ? if it is
// doubtful whether the app takes that user, or - for a session that the app looks up.
func seen(rd *session.Reader, header http.Header) string {
	var s session.Session
	rd.Read(header, &s)
	var all []string
	for _, token := range s.Tokens {
		switch c := &token.Claims; {
		case c.AppAsks:
			all = append(all, "-")
		case c.Doubtful:
			all = append(all, string(c.Subject)+"?")
		default:
			all = append(all, string(c.Subject))
		}
	}
	slices.Sort(all)
	if s.TooLarge {
		all = append(all, "too large")
	}
	return strings.Join(slices.Compact(all), " ")
}

// TestWhoseSessionItIs is the table of what Better Auth believes, by release, against
// what may be said of it without a look at its table.
func TestWhoseSessionItIs(t *testing.T) {
	t.Parallel()
	const token, data = "better-auth.session_token", "better-auth.session_data"
	for strategy, data64 := range strategies {
		ada, bob := newCache("a1", "ada"), newCache("b1", "bob")
		past := func(c cache) cache { c.ends = minted.Add(-time.Minute); return c }
		ended := func(c cache) cache { c.expires = minted.Add(-time.Minute); return c }
		a, b := sign(secret, "a1"), sign(secret, "b1")
		dataOf := func(c cache) string { return data64(t, secret, c) }
		chunks := dataOf(ada)
		half := len(chunks) / 2
		for name, c := range map[string]struct {
			cookies []string // name and value, by turns
			bearer  string
			want    string
		}{
			"a cache beside its token":            {[]string{token, a, data, dataOf(ada)}, "", "ada"},
			"in the other order":                  {[]string{data, dataOf(ada), token, a}, "", "ada"},
			"on HTTPS":                            {[]string{"__Secure-" + token, a, "__Secure-" + data, dataOf(ada)}, "", "ada"},
			"of a host":                           {[]string{"__Host-" + token, a, "__Host-" + data, dataOf(ada)}, "", "ada"},
			"in chunks":                           {[]string{token, a, data + ".0", chunks[:half], data + ".1", chunks[half:]}, "", "ada"},
			"in chunks by strange names":          {[]string{token, a, data + ".00", chunks[:half], data + ".x.1y", chunks[half:]}, "", "ada"},
			"whole, beside a chunk":               {[]string{token, a, data, dataOf(ada), data + ".0", "x"}, "", "ada"},
			"in chunks, beside an empty one":      {[]string{token, a, data, "", data + ".0", chunks}, "", "ada"},
			"a token alone":                       {[]string{token, a}, "", "-"},
			"of the plugin multiSession":          {[]string{token, a, token + "_multi-a1", a}, "", "-"},
			"a cache that has expired":            {[]string{token, a, data, dataOf(past(ada))}, "", "-"},
			"of a session that has expired":       {[]string{token, a, data, dataOf(ended(ada))}, "", "-"},
			"a cache by another secret":           {[]string{token, a, data, data64(t, "another", ada)}, "", "-"},
			"a cache of somebody else":            {[]string{token, b, data, dataOf(ada)}, "", "ada?"},
			"a cache alone":                       {[]string{data, dataOf(ada)}, "", "ada?"},
			"a cache beside a forged token":       {[]string{token, sign("another", "a1"), data, dataOf(ada)}, "", "ada?"},
			"a cache beside an unsigned token":    {[]string{token, "a1", data, dataOf(ada)}, "", "ada?"},
			"a forged token":                      {[]string{token, sign("another", "a1")}, "", ""},
			"a forged token and cache":            {[]string{token, sign("another", "a1"), data, data64(t, "another", ada)}, "", ""},
			"two tokens, of which one is his":     {[]string{token, a, token, b, data, dataOf(bob)}, "", "bob bob?"},
			"two caches, of which one is hers":    {[]string{token, a, data, dataOf(ada), data, dataOf(bob)}, "", "ada bob?"},
			"two people, by prefix":               {[]string{token, a, data, dataOf(ada), "__Secure-" + token, b, "__Secure-" + data, dataOf(bob)}, "", "ada bob"},
			"a Bearer token":                      {nil, a, "-"},
			"a Bearer token, decoded":             {nil, strings.NewReplacer("%3D", "=", "%2B", "+", "%2F", "/").Replace(a), "-"},
			"a Bearer token without a signature":  {nil, strings.Repeat("a", 32), ""},
			"a Bearer token beside its cache":     {[]string{data, dataOf(ada)}, a, "ada"},
			"a Bearer token beside another cache": {[]string{data, dataOf(ada)}, b, "ada?"},
			"another framework's":                 {[]string{"session", dataOf(ada), data + "x", "y", data + "-0", "z"}, "", ""},
		} {
			var pairs []string
			for pair := range slices.Chunk(c.cookies, 2) {
				pairs = append(pairs, pair[0]+"="+pair[1])
			}
			header := http.Header{"Cookie": {strings.Join(pairs, "; ")}}
			if c.bearer != "" {
				header.Set("Authorization", "Bearer "+c.bearer)
			}
			if got := seen(reader(t, Module{Secrets: []string{secret}}, nil, minted), header); got != c.want {
				t.Errorf("%s, %s: %q, want %q", strategy, name, got, c.want)
			}
		}
	}
}

// TestWhatTheAppAcceptsIsRead has caches that somebody has written in another way: the
// app parses them, so they stay valid.
func TestWhatTheAppAcceptsIsRead(t *testing.T) {
	t.Parallel()
	c := newCache("a1", "ada")
	c.extra = `,"note":"\u0001\"\\/é😀\ud800","born":"1815-12-10T00:00:00.000Z","rank":1.5e+21,"small":1e-7,"one":1,"zero":0,"list":[1,{"a":null}]`
	text := c.envelope(secret)
	rd := reader(t, Module{Secrets: []string{secret}}, nil, minted)
	read := func(text []byte) string {
		value := base64.RawURLEncoding.EncodeToString(text)
		return seen(rd, http.Header{"Cookie": {"better-auth.session_token=" + sign(secret, "a1") + "; better-auth.session_data=" + value}})
	}
	replace := func(old, by string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("no %s in %s", old, text)
		}
		return strings.Replace(text, old, by, 1)
	}
	for name, other := range map[string]string{
		"as it is":                    text,
		"with blanks":                 replace(`"user":{`, "\"user\" \t\r\n: { "),
		"with escapes":                replace(`"Ada"`, `"\u0041d\u0061"`),
		"with an escaped name":        replace(`"session":{"expires`, `"sess\u0069on":{"expires`),
		"with an escaped slash":       replace(`\\/`, `\\\/`),
		"with an escaped pair":        replace(`😀`, `\uD83D\ude00`),
		"with a surrogate in capital": replace(`\ud800`, `\uD800`),
		"with numbers written oddly":  replace(`"one":1,"zero":0`, `"one":10e-1,"zero":-0.0`),
		"with a large number":         replace(`1.5e+21`, `1500000000000000000000`),
		"with a time without ms":      replace(`1815-12-10T00:00:00.000Z`, `1815-12-09T24:00:00Z`),
		"with a member twice":         replace(`"name":"Ada"`, `"name":"Bob","name":"Ada"`),
		"with members of others":      replace(`{"session":{"session"`, `{"SESSION":{},"Signature":"","more":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]],"session":{"session"`),
		"with the first twice":        replace(`{"session":{"session"`, `{"session":1,"session":{"session"`),
		"with a byte order mark":      "\ufeff" + text,
		"with a signature padded":     strings.TrimSuffix(text, `"}`) + `==="}`,
	} {
		if got := read([]byte(other)); got != "ada" {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, other := range map[string]string{
		"another name":        replace(`"Ada"`, `"Eve"`),
		"another order":       replace(`"name":"Ada","id":"ada"`, `"id":"ada","name":"Ada"`),
		"another end":         strings.Replace(text, fmt.Sprintf(`"expiresAt":%d`, c.ends.UnixMilli()), fmt.Sprintf(`"expiresAt":%d`, c.ends.UnixMilli()+1), 1),
		"an end that is text": strings.Replace(text, fmt.Sprintf(`"expiresAt":%d`, c.ends.UnixMilli()), fmt.Sprintf(`"expiresAt":"%d"`, c.ends.UnixMilli()), 1),
		"no signature":        text[:strings.LastIndex(text, `,"signature"`)] + "}",
		"cut":                 text[:len(text)-1],
		"more behind it":      text + "{}",
		"a list":              "[" + text + "]",
	} {
		if got := read([]byte(other)); got != "-" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestSecretsCountAsInTheApp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options   []string
		variables map[string]string
		signs     string // whose cookies are read
		decrypts  string // whose encrypted cache is, beside a token by signs
		fails     string
	}{
		"BETTER_AUTH_SECRET":                         {nil, map[string]string{"BETTER_AUTH_SECRET": secret}, secret, secret, ""},
		"AUTH_SECRET":                                {nil, map[string]string{"AUTH_SECRET": secret}, secret, secret, ""},
		"BETTER_AUTH_SECRET before AUTH_SECRET":      {nil, map[string]string{"AUTH_SECRET": "x", "BETTER_AUTH_SECRET": secret}, secret, secret, ""},
		"the newer of two":                           {nil, map[string]string{"BETTER_AUTH_SECRETS": "2:" + secret + ", 1:" + older}, secret, older, ""},
		"two, and the one before there were several": {nil, map[string]string{"BETTER_AUTH_SECRETS": "2:" + secret, "BETTER_AUTH_SECRET": older}, secret, older, ""},
		"of the options":                             {[]string{secret, older}, map[string]string{"BETTER_AUTH_SECRET": "x"}, older, secret, ""},
		"none":                                       {nil, nil, "", "", "no key to read its sessions with: set BETTER_AUTH_SECRET"},
		"an empty placeholder":                       {[]string{"{env.NO_SUCH_VARIABLE}"}, nil, "", "", "secret: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := Module{Secrets: c.options}
			if c.fails != "" {
				_, err := m.OpenFormat(keys{c.variables, t.Cleanup})
				if err == nil || !strings.HasPrefix(err.Error(), c.fails) || errors.Is(err, formats.ErrNoKey) != (c.options == nil) {
					t.Errorf("error %v", err)
				}
				return
			}
			rd := reader(t, m, c.variables, minted)
			ada := newCache("a1", "ada")
			for _, data := range []string{compact(t, c.signs, ada), signed(t, c.signs, ada), encrypted(t, c.signs, ada), encrypted(t, c.decrypts, ada)} {
				if got := seen(rd, http.Header{"Cookie": {"better-auth.session_token=" + sign(c.signs, "a1") + "; better-auth.session_data=" + data}}); got != "ada" {
					t.Errorf("%q", got)
				}
			}
			if len(c.variables["BETTER_AUTH_SECRETS"]) > 0 {
				if got := seen(rd, http.Header{"Cookie": {"better-auth.session_token=" + sign(older, "a1")}}); got != "" {
					t.Errorf("a token by an older secret: %q", got)
				}
			}
		})
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for block, fails := range map[string]string{
		"": "",
		"{\nsecret {env.A} b\nprefix app\njwks /k\nsubject user.email\n}": "",
		"{\ncookies sid sdata\n}":                    "",
		"{\ncookies sid\n}":                          "give the two names",
		"{\ncookies a b\nprefix c\n}":                "give the two names",
		"{\nredis redis://h\nredis_key {subject}\n}": "",
		"{\nsessions off\n}":                         "",
		"{\nredis_key {subject}\n}":                  "`redis_key` needs `redis`",
		"{\nredis redis://h\nsessions s\n}":          "sessions that are not in Redis",
		"{\nsecret\n}":                               "wrong argument count",
		"{\ncolour red\n}":                           `unrecognized option "colour" of format better_auth`,
	} {
		d := caddyfile.NewTestDispenser("better_auth " + block)
		var m Module
		err := m.UnmarshalCaddyfile(d)
		if err == nil {
			m.Secrets, m.JWKS = []string{secret}, ""
			_, err = m.OpenFormat(keys{nil, t.Cleanup})
		}
		if (err == nil) != (fails == "") || err != nil && !strings.Contains(err.Error(), fails) {
			t.Errorf("%q: error %v", block, err)
		}
	}
}

// TestAnAppCanNameAnotherClaim is about users who are looked up by another column.
func TestAnAppCanNameAnotherClaim(t *testing.T) {
	t.Parallel()
	c := newCache("a1", "ada")
	c.extra = `,"email":"ada@example.com"`
	rd := reader(t, Module{Secrets: []string{secret}, Subject: "user.email"}, nil, minted)
	if got := seen(rd, http.Header{"Cookie": {"better-auth.session_token=" + sign(secret, "a1") + "; better-auth.session_data=" + compact(t, secret, c)}}); got != "ada@example.com" {
		t.Errorf("%q", got)
	}
}

func FuzzDecode(f *testing.F) {
	format := open(f, Module{Secrets: []string{secret}}, nil)
	c := newCache("a1", "ada")
	f.Add("better-auth.session_token", sign(secret, "a1"), "better-auth.session_data", compact(f, secret, c), "")
	f.Add("__Secure-better-auth.session_token", "a.b", "__Secure-better-auth.session_data.1", signed(f, secret, c), "Bearer "+sign(secret, "a1"))
	f.Add("better-auth.session_data.0", "e30", "better-auth.session_data.x.1", encrypted(f, secret, c), "bearer x")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2, bearer string) {
		parts := []formats.Part{{Name: name1, Value: value1}, {Name: name2, Value: value2}, {Header: "Authorization", Value: bearer}}
		for _, p := range parts {
			format.Owns(p.Name, p.Value)
		}
		for _, r := range format.Readings(parts) {
			for _, i := range slices.Concat(r.Parts, r.Doubtful) {
				if i < 0 || i >= len(parts) {
					t.Errorf("part %d", i)
				}
			}
			s, err := format.Decode(r.Text, minted)
			if err == nil && !s.AppAsks && s.Subject != "ada" {
				t.Errorf("a session of %q out of nothing", s.Subject)
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	c := newCache("a1", "ada")
	f.Add(c.envelope(secret))
	f.Add(`{"b":[1,-0,1e21,"\ud83d\ude00\udc00"],"2":{},"1":null,"b":true,"at":"2026-02-30T00:00:00Z"}`)
	f.Fuzz(func(t *testing.T, text string) {
		v, ok := parseJSON(toUTF8([]byte(text)))
		if !ok {
			return
		}
		written := v.append(nil)
		again, ok := parseJSON(written)
		if !ok || string(again.append(nil)) != string(written) {
			t.Errorf("%q is written as %q, and that not as itself", text, written)
		}
	})
}
