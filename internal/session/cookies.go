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
	owners
}

// owners is the set of those who read a cookie: bit 0 is for the libraries that
// readings.go mirrors, the others are for Config.Formats, in their order.
type owners uint32

const authJS owners = 1

// maxFormats is how many formats a set of owners has room for.
const maxFormats = 31

func (o owners) has(format int) bool { return o>>(format+1)&1 != 0 }

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

// ownersOf returns who reads a cookie; none of one that is not a session cookie.
func (rd *Reader) ownersOf(name, value string) (all owners) {
	for _, base := range rd.config.CookieNames {
		if strings.HasPrefix(name, base) {
			all = authJS
			break
		}
	}
	for i := range rd.formats {
		if rd.formats[i].Owns(name, value) {
			all |= authJS << (i + 1)
		}
	}
	return all
}

// appendCookies appends the session cookies of Cookie fields. It adds those that
// other frameworks may read to s.foreign. If there are more than can be read, it
// leaves the rest.
func (rd *Reader) appendCookies(cookies []cookie, lines []string, s *Session) []cookie {
	for _, line := range lines {
		for more := true; more; {
			var pair string
			pair, line, more = strings.Cut(line, ";")
			name, value, readers := rd.cut(pair)
			if readers != 0 {
				cookies = append(cookies, cookie{name, decodeValue(value), pair, readers})
			} else {
				rd.notice(name, value, s)
			}
			if rd.isForeign(pair, readers&authJS != 0) {
				s.foreign = append(s.foreign, pair)
			}
			if len(cookies) > maxCookies*(len(rd.config.CookieNames)+len(rd.formats)) || len(s.foreign) > maxCookies {
				s.setTooLarge()
				return cookies
			}
		}
	}
	return cookies
}

// cut splits a cookie into its name and raw value. It has no owners if it is not a
// session cookie.
func (rd *Reader) cut(pair string) (name, value string, readers owners) {
	name, value, _ = strings.Cut(pair, "=")
	name = trim(name)
	return name, value, rd.ownersOf(name, value)
}

// appendSetCookies appends the session cookies of Set-Cookie fields. Cookies that
// they delete have an empty value.
func (rd *Reader) appendSetCookies(cookies []cookie, lines []string, s *Session) []cookie {
	for _, line := range lines {
		pair, attributes, _ := strings.Cut(line, ";")
		name, value, readers := rd.cut(pair)
		switch {
		case deletes(attributes, s.At):
			if readers != 0 {
				cookies = append(cookies, cookie{name, "", name + "=", readers})
			}
			continue
		case readers != 0:
			cookies = append(cookies, cookie{name, decodeValue(value), pair, readers})
		}
		if rd.isForeign(pair, readers&authJS != 0) {
			s.foreign = append(s.foreign, pair)
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

// fewNames are few enough to be searched one after the other.
const fewNames = 16

// appendNames appends the names of cookies, without duplicates.
func appendNames(names []string, cookies []cookie) []string {
	if len(cookies) > fewNames {
		return appendManyNames(names, cookies)
	}
	for _, c := range cookies {
		if name := trim(c.name); !slices.Contains(names, name) && name != "" {
			names = append(names, name)
		}
	}
	return names
}

// appendManyNames is appendNames in linear time.
func appendManyNames(names []string, cookies []cookie) []string {
	known := make(map[string]bool, len(cookies))
	known[""] = true
	for _, name := range names {
		known[name] = true
	}
	for _, c := range cookies {
		if name := trim(c.name); !known[name] {
			known[name] = true
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
