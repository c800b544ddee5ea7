package session

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cookie is a session cookie: its name, its value decoded, and both as they
// came.
type cookie struct {
	name, value, pair string
}

// trim takes off what readers of cookies do: npm's cookie 0.4.1, which Next.js
// bundles, uses String.trim on a header decoded as Latin-1, where the byte 0xA0
// is a blank too.
func trim(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isBlank(c byte) bool {
	return c == ' ' || '\t' <= c && c <= '\r' || c == 0xa0
}

// validName tells whether a name can be a cookie's (RFC 6265, section 4.1.1).
func validName(name string) bool {
	return name != "" && strings.IndexFunc(name, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
	}) < 0
}

// base returns the configured name that a cookie's name begins with, empty
// when it is no session cookie.
func (rd *Reader) base(name string) string {
	for _, base := range rd.config.CookieNames {
		if strings.HasPrefix(name, base) {
			return base
		}
	}
	return ""
}

// jar appends the session cookies of a request, from all of its Cookie lines,
// in their order.
func (rd *Reader) jar(jar []cookie, lines []string) []cookie {
	for _, line := range lines {
		for more := true; more; {
			var pair string
			pair, line, more = strings.Cut(line, ";")
			name, value := rd.pair(pair)
			if name != "" {
				jar = append(jar, cookie{name, decodeValue(value), pair})
			}
		}
	}
	return jar
}

// pair splits a cookie into its name and raw value. The name is empty when it
// is no session cookie.
func (rd *Reader) pair(pair string) (name, value string) {
	name, value, _ = strings.Cut(pair, "=")
	name = trim(name)
	if rd.base(name) == "" {
		return "", ""
	}
	return name, value
}

// setJar appends the session cookies that a response sets. Those that it
// deletes have an empty value.
func (rd *Reader) setJar(jar []cookie, lines []string, now time.Time) []cookie {
	for _, line := range lines {
		pair, attributes, _ := strings.Cut(line, ";")
		name, value := rd.pair(pair)
		switch {
		case name == "":
		case deletes(attributes, now):
			jar = append(jar, cookie{name, "", name + "="})
		default:
			jar = append(jar, cookie{name, decodeValue(value), pair})
		}
	}
	return jar
}

// deletes tells whether the attributes of a Set-Cookie field make the browser
// forget the cookie. Max-Age goes before Expires (RFC 6265, section 5.3).
func deletes(attributes string, now time.Time) bool {
	expired := false
	for attribute := range strings.SplitSeq(attributes, ";") {
		key, value, _ := strings.Cut(attribute, "=")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "max-age":
			if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
				return seconds <= 0
			}
		case "expires":
			if at, err := http.ParseTime(value); err == nil {
				expired = !at.After(now)
			}
		}
	}
	return expired
}

// decodeValue reads the raw value of a cookie: blanks and quotes come off, and
// escapes are decoded. Of a value that begins with a quote, the last character
// goes as well, whatever it is, as cookie 0.4.1 has it.
func decodeValue(raw string) string {
	value := trim(raw)
	if len(value) > 0 && value[0] == '"' {
		value = value[1:]
		if len(value) > 0 {
			value = value[:len(value)-1]
		}
	}
	return decodeURIComponent(value)
}

// appendNames appends the distinct names of a jar, in their order.
func appendNames(distinct []string, jar []cookie) []string {
	for _, c := range jar {
		if name := trim(c.name); !slices.Contains(distinct, name) {
			distinct = append(distinct, name)
		}
	}
	return distinct
}

// withPrefix returns the cookies of a jar whose name begins with base.
func withPrefix(jar []cookie, base string) []cookie {
	var group []cookie
	for i, c := range jar {
		switch matches := strings.HasPrefix(c.name, base); {
		case matches && len(group) == i: // as usual, all that there are
			group = jar[:i+1]
		case matches:
			group = append(slices.Clip(group), c)
		}
	}
	return group
}

// Strip takes every session cookie off the header of a request, and an
// Authorization field that holds a token of the app. Other cookies stay byte
// for byte.
func (rd *Reader) Strip(header http.Header) {
	var lines []string
	for _, line := range header["Cookie"] {
		if kept := rd.without(line); trim(strings.ReplaceAll(kept, ";", "")) != "" {
			lines = append(lines, kept)
		}
	}
	replace(header, "Cookie", lines)
	replace(header, "Authorization", slices.DeleteFunc(slices.Clone(header["Authorization"]), func(field string) bool {
		var claims Claims
		return rd.bearer(field, rd.config.Now(), &claims)
	}))
}

// without returns a Cookie line without its session cookies.
func (rd *Reader) without(line string) string {
	var kept []string
	found := false
	for pair := range strings.SplitSeq(line, ";") {
		if name, _ := rd.pair(pair); name != "" {
			found = true
			continue
		}
		kept = append(kept, pair)
	}
	if !found {
		return line
	}
	return strings.TrimLeft(strings.Join(kept, ";"), " ")
}

// StripSetCookies takes the fields off a response that set a session cookie,
// and leaves those that delete one.
func (rd *Reader) StripSetCookies(header http.Header) {
	replace(header, "Set-Cookie", slices.DeleteFunc(slices.Clone(header["Set-Cookie"]), func(line string) bool {
		pair, attributes, _ := strings.Cut(line, ";")
		name, _ := rd.pair(pair)
		return name != "" && !deletes(attributes, rd.config.Now())
	}))
}

// replace sets a field of a header to lines, or takes it off when there are
// none.
func replace(header http.Header, field string, lines []string) {
	if len(lines) == 0 {
		delete(header, field)
		return
	}
	header[field] = lines
}
