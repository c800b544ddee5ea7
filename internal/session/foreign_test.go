package session

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// octal returns a token as http.cookies of Python quotes it, with an escape for
// each dot.
func octal(token string) string { return `"` + strings.ReplaceAll(token, ".", `\056`) + `"` }

// TestTokensAsOtherFrameworksReadThem has Cookie fields of which a parser of some
// framework reads a token.
func TestTokensAsOtherFrameworksReadThem(t *testing.T) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ada"}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	const name = "app.session"
	end := len(token) - 4 // within the signature
	for how, line := range map[string]string{
		"JSON, cookie-parser":                        name + `=j:"` + token + `"`,
		"JSON, percent-encoded":                      name + "=j%3A%22" + token + "%22",
		"JSON with its escapes":                      name + `=j:"\u0065` + token[1:] + `"`,
		"JSON with its escapes, percent-encoded":     name + "=j%3A%22%5Cu0065" + token[1:] + "%22",
		"signed, cookie-parser":                      name + "=s:" + token + ".c2lnbmF0dXJl",
		"signed, percent-encoded":                    name + "=s%3A" + token + ".c2ln%2BbmF0dXJl",
		"signed JSON":                                name + `=s%3Aj%3A%22` + token + "%22.c2lnbmF0dXJl",
		"in a JSON object, cookie-parser":            name + `=j:{"n":1e999,"user":{"tokens":["x","` + token + `"]}}`,
		"in a JSON object, percent-encoded":          name + "=j%3A%7B%22token%22%3A%22" + token + "%22%7D",
		"in a JSON object, signed":                   name + `=s:j:{"token":"` + token + `"}.c2ln`,
		"octal, http.cookies":                        name + "=" + octal(token),
		"backslashes, http.cookies":                  name + `="` + strings.ReplaceAll(token, ".", `\.`) + `"`,
		"octal of any character":                     name + `="\145` + token[1:] + `"`,
		"octal without quotes, WebOb":                name + "=" + strings.ReplaceAll(token, ".", `\056`),
		"a blank around it that is not ASCII":        name + "\u2003=\u00a0" + token + "\u3000",
		"separated by a blank, http.cookies":         "theme=dark " + name + "=" + token,
		"separated by blanks around the sign":        "theme=dark\t" + name + " = " + token,
		"separated by a comma, Rack 1":               "theme=dark, " + name + "=" + token,
		"separated by a comma, with a blank, Rack 1": "theme=dark, " + name + "=" + token[:end] + " " + token[end:],
		"separated by a blank, with a comma":         "theme=dark " + name + "=" + token[:end] + "," + token[end:],
		"after a comma alone, Rack 1":                "," + name + "=" + token,
		"an escaped name after a comma, Rack 1":      "theme=dark, app%2esession=" + token,
		"padded, and separated by a blank":           name + "=" + token + "= theme=dark",
		"an equals sign in the signature, PHP":       name + "=" + token[:end] + "=" + token[end:],
		"followed by another, http.cookies":          name + "=" + token + " theme=dark",
		"after another of the name":                  name + "=x " + name + "=" + token,
		"underscores for dots, PHP":                  "app_session=" + token,
		"brackets and blanks for underscores, PHP":   "app[session=" + token,
		"an escaped name, PHP and Rack 2":            "app%2esession=" + token,
		"a name that ends at a zero byte, PHP":       "app_session%00x=" + token,
		"the same below a dot, PHP":                  "app.session%00x=" + token,
		"after another of the name, with a blank":    name + "=x; " + name + "\u2003=" + token,
		"a plus sign before the name, PHP":           "+app.session=" + token,
		"a plus sign in the value, PHP":              name + "=" + token[:end] + "+" + token[end:],
		"an escape that is none beside others, PHP":  name + "=" + strings.ReplaceAll(token, ".", "%2E") + "%!",
		"quotes around escapes, and a wrong one":     name + `="` + strings.ReplaceAll(token, ".", "%2E") + `%!"`,
		"of duplicate names neither first nor last":  name + "=x; " + name + "=" + octal(token) + "; " + name + "=y",
		"the middle of three, http.cookies":          name + "=x; " + name + "=" + token + "; " + name + "=y",
		"of duplicate names in disguise, the middle": "app_session=x; app%5Fsession=" + token + "; app_session=y",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			rd := newReader(t, Config{CookieNames: []string{name}})
			header := http.Header{"Cookie": {"first=1; " + line + "; last=2"}}
			if s := read(rd, header); !slices.Equal(subjects(s), []string{"ada"}) {
				t.Fatalf("read %q (%s)", subjects(s), s.Failure)
			}
			rd.Strip(header)
			if want := []string{"first=1; last=2"}; !slices.Equal(header["Cookie"], want) {
				t.Errorf("stripping leaves %q", header["Cookie"])
			}
		})
	}
}

// TestARequestHasFewSignaturesVerified sends many signed tokens at once: those are
// not read, and kept from the app.
func TestARequestHasFewSignaturesVerified(t *testing.T) {
	for n, tooLarge := range map[int]bool{1: false, maxSignatures: false, maxSignatures + 1: true, maxCookies: true} {
		rd := newReader(t, Config{CookieNames: []string{"session"}})
		header := http.Header{}
		for i := range n {
			header.Add("Cookie", fmt.Sprintf("session=eyJhbGciOiJIUzI1NiJ9.e30.%04d", i))
		}
		s := read(rd, header)
		if s.TooLarge != tooLarge || s.signatures > maxSignatures {
			t.Errorf("%d tokens: too large %t, %d signatures", n, s.TooLarge, s.signatures)
		}
	}
}

// TestACookieWithMoreValuesThanAreJudged has a token behind many others in one cookie.
func TestACookieWithMoreValuesThanAreJudged(t *testing.T) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ada"}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	rd := newReader(t, Config{CookieNames: []string{"session"}})
	many := func(format string, n int) string {
		var all strings.Builder
		for i := range n {
			fmt.Fprintf(&all, format, i)
		}
		return all.String()
	}
	for how, line := range map[string]string{
		"JSON":              `session=j:[` + many(`"%d....",`, 2*maxForeignValues) + `"` + token + `"]`,
		"cookies in a pair": many("session=%d....,", 2*maxForeignReadings) + "session=" + token,
	} {
		t.Run(how, func(t *testing.T) {
			header := http.Header{"Cookie": {line}}
			if s := read(rd, header); !s.TooLarge {
				t.Errorf("read %q", subjects(s))
			}
			if rd.Strip(header); len(header) != 0 {
				t.Errorf("stripping leaves %q", header)
			}
		})
	}
}

// TestOtherCookiesAreNoSessions has cookies that only look like one.
func TestOtherCookiesAreNoSessions(t *testing.T) {
	rd := newReader(t, Config{CookieNames: []string{"app.session"}})
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ada"}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"theme=" + token, "app-session=" + token, "xapp.session=" + token, "App.session=" + token, "app_sessio=" + token,
		`prefs={"app.session": "dark", "x": 1}`, "a=b c=d", "OptanonConsent=a+b, c%20d", "app[session]=" + token,
	} {
		header := http.Header{"Cookie": {line}}
		if s := read(rd, header); len(s.Tokens) > 0 || s.TooLarge {
			t.Errorf("%q is read as %q", line, subjects(s))
		}
		if name, _, _ := strings.Cut(line, "="); name != "prefs" {
			if rd.Strip(header); !slices.Equal(header["Cookie"], []string{line}) {
				t.Errorf("stripping makes %q of %q", header["Cookie"], line)
			}
		}
	}
}

func TestTokensThatAResponseSetsAsOtherFrameworksDo(t *testing.T) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ada"}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	rd := newReader(t, Config{CookieNames: []string{"session"}})
	header := http.Header{"Set-Cookie": {"theme=dark", "session=s%3A" + token + ".sig; Path=/; HttpOnly"}}
	var s Session
	if rd.ReadResponse(header, nil, &s); !slices.Equal(subjects(&s), []string{"ada"}) {
		t.Errorf("read %q", subjects(&s))
	}
	if rd.StripSetCookies(header); !slices.Equal(header["Set-Cookie"], []string{"theme=dark"}) {
		t.Errorf("left %q", header["Set-Cookie"])
	}
}
