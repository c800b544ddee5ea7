package session

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Signed tokens are in the cookies of any framework, and each parses cookies in its
// own way: cookie-parser of Express decodes JSON, Python (Django, Starlette,
// http.cookies) quotes with backslashes, PHP and Rack forms. These parsers read one
// cookie by its exact name, so each is read on its own here, in every way.

// isForeign reports whether the parser of another framework may take a pair of a
// Cookie field for a session cookie, or may read another value from one than the
// parsers in readings.go. session tells whether those take it for one.
func (rd *Reader) isForeign(pair string, session bool) bool {
	name, value, _ := strings.Cut(pair, "=")
	if session && hasForeignValue(value) {
		return true
	}
	if session {
		return strings.ContainsFunc(trim(name), func(c rune) bool { return c == '%' || c == '+' || c == ' ' || c == '[' || c >= utf8.RuneSelf })
	}
	var room [shortName]byte
	plain, decoded := foreignName(name, room[:0])
	for _, base := range rd.config.CookieNames {
		if equalNames(plain, base) || equalNames(decoded, base) || strings.Contains(pair, base) && strings.ContainsFunc(strings.TrimLeft(pair, " "), isSeparator) {
			return true
		}
	}
	return false
}

// hasForeignValue reports whether a value has anything in it that some parser
// decodes. A token has not.
func hasForeignValue(value string) bool {
	for _, c := range []byte{'%', '\\', '"', '+', ':', ' ', '\t', ','} {
		if strings.IndexByte(value, c) >= 0 {
			return true
		}
	}
	return value != "" && (value[0] >= utf8.RuneSelf || value[len(value)-1] >= utf8.RuneSelf)
}

// isSeparator reports whether http.cookies of Python (whitespace), or Rack 1 and
// RFC 2965 (commas), separate cookies by a character.
func isSeparator(c rune) bool { return c == ',' || c == utf8.RuneError || unicode.IsSpace(c) }

// trimForeign trims what any parser takes for whitespace, in UTF-8 and Latin-1.
func trimForeign(s string) string { return strings.TrimFunc(trim(s), isForeignSpace) }

func trimForeignBytes(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return bytes.TrimFunc(b, isForeignSpace)
}

func isForeignSpace(c rune) bool { return c == utf8.RuneError || unicode.IsSpace(c) }

// shortName is a length that few names exceed, in bytes.
const shortName = 64

// foreignName returns a name as a parser may read it: trimmed, or with escapes
// decoded, in the memory of room if it fits. PHP ends it at a zero byte.
func foreignName(name string, room []byte) (plain string, decoded []byte) {
	name = trimForeign(name)
	if !strings.ContainsAny(name, "%+") {
		return name, nil
	}
	if len(name) > 3*cap(room) {
		room = make([]byte, 0, len(name))
	}
	decoded, _, _ = bytes.Cut(appendForm(room, name, true), []byte{0})
	return "", trimForeignBytes(decoded)
}

// isForeignName reports whether a parser may read a name as base: it may trim it or
// decode escapes in it.
func isForeignName(name, base string) bool {
	if len(name) < len(base) {
		return false
	}
	var room [shortName]byte
	plain, decoded := foreignName(name, room[:0])
	return equalNames(plain, base) || equalNames(decoded, base)
}

// equalNames reports whether PHP takes two names for the same: it puts underscores in
// the place of dots, blanks and unclosed brackets.
func equalNames[T string | []byte](name T, base string) bool {
	if len(name) != len(base) {
		return false
	}
	for i := range len(name) {
		if underscore(name[i]) != underscore(base[i]) {
			return false
		}
	}
	return true
}

func underscore(c byte) byte {
	if c == '.' || c == ' ' || c == '[' {
		return '_'
	}
	return c
}

// appendRepeated appends the pairs of cookies with the name base, if there are more
// than two. http.cookies stops at what it cannot parse, and its last one may be any.
func appendRepeated(pairs []string, group []cookie, base string) []string {
	if len(group) < 3 {
		return pairs
	}
	var repeated []string
	for _, c := range group {
		if c.name == base {
			repeated = append(repeated, c.pair)
		}
	}
	if len(repeated) < 3 {
		return pairs
	}
	return append(slices.Clip(pairs), repeated...)
}

// appendForeign appends the readings of pairs by the parsers of other frameworks,
// as cookies with the name base. It stops once there are more than maxReadings.
func appendForeign(all []reading, pairs []string, base string) []reading {
	for _, pair := range pairs {
		all = appendForeignPiece(all, pair, cookie{name: trim(before(pair, "=")), pair: pair}, base)
		fields := strings.FieldsFunc(pair, isSeparator)
		if len(fields) < 2 {
			continue
		}
		// The pair can also be several cookies that whitespace and commas separate.
		for i, field := range fields {
			named := field
			joins := strings.HasPrefix(field, "=") && i > 0 // there may be blanks around it
			if joins {
				named = fields[i-1]
			}
			if !isForeignName(before(named, "="), base) {
				continue
			}
			if joins {
				field = named + field
			}
			if strings.HasSuffix(field, "=") && i+1 < len(fields) {
				field += fields[i+1]
			}
			if all = appendForeignPiece(all, field, cookie{pair: pair}, base); len(all) > maxReadings {
				return all
			}
		}
	}
	return all
}

// appendForeignPiece appends the readings of a piece of a pair, which may be a
// cookie with the name base.
func appendForeignPiece(all []reading, piece string, from cookie, base string) []reading {
	name, value, _ := strings.Cut(piece, "=")
	if !isForeignName(name, base) {
		return all
	}
	for _, text := range foreignValues(value) {
		all = append(all, reading{text, []cookie{from}})
	}
	return all
}

// before returns what is before a separator in a text.
func before(text, separator string) string {
	text, _, _ = strings.Cut(text, separator)
	return text
}

// foreignValues returns the values that parsers may read from a raw one, those that
// can be tokens.
func foreignValues(raw string) []string {
	value := trimForeign(raw)
	unquoted := value
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		unquoted = value[1 : len(value)-1]
	}
	unquoted = unescapeBackslashes(unquoted)
	var all []string
	add := func(text string) {
		if dots := strings.Count(text, "."); (dots == 2 || dots == 4) && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	for _, text := range []string{value, unquoted, decodeValue(raw), unescapeForm(value, true), unescapeForm(value, false), unescapeForm(unquoted, false)} {
		add(text)
		if signed, found := strings.CutPrefix(text, "s:"); found { // cookie-signature
			if end := strings.LastIndexByte(signed, '.'); end >= 0 {
				text = signed[:end]
				add(text)
			}
		}
		if encoded, found := strings.CutPrefix(text, "j:"); found {
			var decoded string
			if json.Unmarshal([]byte(encoded), &decoded) == nil {
				add(decoded)
			}
		}
	}
	return all
}

// unescapeForm decodes the escapes in a text, and plus signs too if plus is set.
// Unlike decodeURIComponent, it leaves what cannot be decoded as it is, like PHP
// and .NET.
func unescapeForm(text string, plus bool) string {
	if !strings.ContainsAny(text, "%+") {
		return text
	}
	return string(appendForm(make([]byte, 0, len(text)), text, plus))
}

// appendForm appends what unescapeForm returns.
func appendForm(decoded []byte, text string, plus bool) []byte {
	for i := 0; i < len(text); i++ {
		c, escaped := decodeByte(text[i:])
		switch {
		case escaped:
			i += 2
		case plus && text[i] == '+':
			c = ' '
		default:
			c = text[i]
		}
		decoded = append(decoded, c)
	}
	return decoded
}

// unescapeBackslashes decodes \056 and \. as http.cookies of Python does.
func unescapeBackslashes(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	decoded := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			i++
			c = text[i]
			if i+2 < len(text) && '0' <= c && c <= '3' && isOctal(text[i+1]) && isOctal(text[i+2]) {
				c = (c-'0')<<6 | (text[i+1]-'0')<<3 | (text[i+2] - '0')
				i += 2
			}
		}
		decoded = append(decoded, c)
	}
	return string(decoded)
}

func isOctal(c byte) bool { return '0' <= c && c <= '7' }
