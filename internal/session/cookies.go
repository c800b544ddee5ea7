package session

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cookie is a session cookie.
type cookie struct {
	name  string
	value string // decoded
	pair  string // name and value as they came
}

// trim trims whitespace as npm's cookie 0.4.1 does, which Next.js bundles:
// String.trim on a header decoded as Latin-1, where the byte 0xA0 is whitespace
// too.
func trim(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isSpace(c byte) bool {
	return c == ' ' || '\t' <= c && c <= '\r' || c == 0xa0
}

// isValidName reports whether a cookie can have the name (RFC 6265, section
// 4.1.1).
func isValidName(name string) bool {
	return name != "" && strings.IndexFunc(name, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
	}) < 0
}

// isSession reports whether a cookie is a session cookie.
func (rd *Reader) isSession(name string) bool {
	for _, base := range rd.config.CookieNames {
		if strings.HasPrefix(name, base) {
			return true
		}
	}
	return false
}

// appendCookies appends the session cookies of Cookie fields.
func (rd *Reader) appendCookies(cookies []cookie, lines []string) []cookie {
	for _, line := range lines {
		for more := true; more; {
			var pair string
			pair, line, more = strings.Cut(line, ";")
			name, value := rd.cut(pair)
			if name != "" {
				cookies = append(cookies, cookie{name, decodeValue(value), pair})
			}
		}
	}
	return cookies
}

// cut splits a cookie into its name and raw value. The name is empty if the
// cookie is not a session cookie.
func (rd *Reader) cut(pair string) (name, value string) {
	name, value, _ = strings.Cut(pair, "=")
	name = trim(name)
	if !rd.isSession(name) {
		return "", ""
	}
	return name, value
}

// appendSetCookies appends the session cookies of Set-Cookie fields. Cookies that
// they delete have an empty value.
func (rd *Reader) appendSetCookies(cookies []cookie, lines []string, now time.Time) []cookie {
	for _, line := range lines {
		pair, attributes, _ := strings.Cut(line, ";")
		name, value := rd.cut(pair)
		switch {
		case name == "":
		case deletes(attributes, now):
			cookies = append(cookies, cookie{name, "", name + "="})
		default:
			cookies = append(cookies, cookie{name, decodeValue(value), pair})
		}
	}
	return cookies
}

// deletes reports whether the attributes of a Set-Cookie field delete the cookie.
// Max-Age takes precedence over Expires (RFC 6265, section 5.3).
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

// decodeValue trims whitespace and quotes from a raw value, and decodes its
// escapes. Like cookie 0.4.1, it removes the last character of a value that
// begins with a quote, whatever that character is.
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

// appendNames appends the names of cookies, without duplicates.
func appendNames(names []string, cookies []cookie) []string {
	for _, c := range cookies {
		if name := trim(c.name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// withPrefix returns the cookies whose name begins with base.
func withPrefix(cookies []cookie, base string) []cookie {
	var group []cookie
	for i, c := range cookies {
		switch matches := strings.HasPrefix(c.name, base); {
		case matches && len(group) == i: // usually all of them: no need to allocate
			group = cookies[:i+1]
		case matches:
			group = append(slices.Clip(group), c)
		}
	}
	return group
}

// Strip removes the session cookies from the header of a request, and an
// Authorization field that holds a token of the app. It leaves other cookies
// byte for byte as they are.
func (rd *Reader) Strip(header http.Header) {
	var lines []string
	for _, line := range header["Cookie"] {
		if kept := rd.stripLine(line); trim(strings.ReplaceAll(kept, ";", "")) != "" {
			lines = append(lines, kept)
		}
	}
	setField(header, "Cookie", lines)
	setField(header, "Authorization", slices.DeleteFunc(slices.Clone(header["Authorization"]), func(field string) bool {
		var claims Claims
		return rd.readBearer(field, &Session{At: rd.config.Now()}, &claims)
	}))
}

// stripLine returns a Cookie field without its session cookies.
func (rd *Reader) stripLine(line string) string {
	var kept []string
	found := false
	for pair := range strings.SplitSeq(line, ";") {
		if name, _ := rd.cut(pair); name != "" {
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

// StripSetCookies removes the Set-Cookie fields of a response that set a session
// cookie. It leaves those that delete one.
func (rd *Reader) StripSetCookies(header http.Header) {
	setField(header, "Set-Cookie", slices.DeleteFunc(slices.Clone(header["Set-Cookie"]), func(line string) bool {
		pair, attributes, _ := strings.Cut(line, ";")
		name, _ := rd.cut(pair)
		return name != "" && !deletes(attributes, rd.config.Now())
	}))
}

// setField sets a header field, or deletes it if there are no lines.
func setField(header http.Header, field string, lines []string) {
	if len(lines) == 0 {
		delete(header, field)
		return
	}
	header[field] = lines
}
