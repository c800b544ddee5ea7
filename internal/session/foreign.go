package session

import (
	"encoding/json"
	"errors"
	"io"
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
	separated := strings.ContainsFunc(strings.TrimLeft(pair, " "), isSeparator)
	for _, base := range rd.config.CookieNames {
		if isForeignName(name, base) || separated && strings.Contains(pair, base) {
			return true
		}
	}
	return separated && strings.Contains(pair, "%") && slices.ContainsFunc(pieces(pair), func(piece string) bool {
		name, _, _ := strings.Cut(piece, "=")
		return slices.ContainsFunc(rd.config.CookieNames, func(base string) bool { return isForeignName(name, base) })
	})
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
func trimForeign(s string) string {
	return strings.TrimFunc(trim(s), func(c rune) bool { return c == utf8.RuneError || unicode.IsSpace(c) })
}

// isForeignName reports whether a parser may read a name as base: it may trim it or
// decode escapes in it. PHP puts underscores in the place of dots, blanks and
// unclosed brackets, and ends it at a zero byte.
func isForeignName(name, base string) bool {
	if name = trimForeign(name); len(name) < len(base) {
		return false
	}
	if strings.ContainsAny(name, "%+") {
		name, _, _ = strings.Cut(unescapeForm(name, true), "\x00")
		name = trimForeign(name)
	}
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
// as cookies with the name base. It is not ok if they are too many to be judged.
func appendForeign(all []reading, pairs []string, base string) (_ []reading, ok bool) {
	for _, pair := range pairs {
		for i, piece := range pieces(pair) {
			name, value, _ := strings.Cut(piece, "=")
			if !isForeignName(name, base) {
				continue
			}
			from := cookie{pair: pair}
			if i == 0 {
				from.name = trim(name)
			}
			texts := foreignValues(value)
			if len(texts) > maxForeignValues || len(all) > maxForeignReadings {
				return all, false
			}
			for _, text := range texts {
				all = append(all, reading{text, []cookie{from}})
			}
		}
	}
	return all, true
}

// pieces returns a pair, and the cookies that it consists of if whitespace, commas,
// or both separate cookies.
func pieces(pair string) []string {
	all := []string{pair}
	for _, separates := range []func(c rune) bool{
		isSeparator,
		func(c rune) bool { return c == ',' },
		func(c rune) bool { return c != ',' && isSeparator(c) },
	} {
		fields := strings.FieldsFunc(pair, separates)
		for i, field := range fields {
			if strings.HasPrefix(field, "=") && i > 0 { // there may be blanks around it
				field = fields[i-1] + field
			}
			if strings.HasSuffix(field, "=") && i+1 < len(fields) {
				field += fields[i+1]
			}
			all = append(all, field)
		}
	}
	return all
}

// Limits on the values that one cookie, and all of a session, can be read as.
const (
	maxForeignValues   = 16
	maxForeignReadings = 4 * maxCookies
)

// foreignValues returns the values that parsers may read from a raw one, those that
// can be tokens. If it returns more than maxForeignValues, those are not all.
func foreignValues(raw string) []string {
	value := trimForeign(raw)
	unquoted := value
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		unquoted = value[1 : len(value)-1]
	}
	unquoted = unescapeBackslashes(unquoted)
	var all []string
	add := func(text string) {
		if dots := strings.Count(text, "."); (dots == 2 || dots == 4) && len(all) <= maxForeignValues && !slices.Contains(all, text) {
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
			eachText(parseJSON(encoded), add)
		}
	}
	return all
}

// parseJSON parses a JSON cookie of Express; nil if that is none.
func parseJSON(text string) any {
	var value any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber() // JavaScript takes any
	if decoder.Decode(&value) != nil {
		return nil
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil
	}
	return value
}

// eachText calls a function with each text of a JSON value.
func eachText(value any, found func(text string)) {
	switch value := value.(type) {
	case string:
		found(value)
	case []any:
		for _, member := range value {
			eachText(member, found)
		}
	case map[string]any:
		for _, member := range value {
			eachText(member, found)
		}
	}
}

// unescapeForm decodes the escapes in a text, and plus signs too if plus is set.
// Unlike decodeURIComponent, it leaves what cannot be decoded as it is, like PHP
// and .NET.
func unescapeForm(text string, plus bool) string {
	if !strings.ContainsAny(text, "%+") {
		return text
	}
	decoded := make([]byte, 0, len(text))
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
	return string(decoded)
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
