package session

import (
	"bytes"
	"encoding/json"
	"iter"
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
	if len(rd.config.CookieNames) == 0 {
		return false
	}
	name, value, _ := strings.Cut(pair, "=")
	if session && hasForeignValue(value) {
		return true
	}
	if session {
		return strings.ContainsFunc(trim(name), func(c rune) bool { return c == '%' || c == '+' || c == ' ' || c == '[' || c >= utf8.RuneSelf })
	}
	var room [shortName]byte
	read := readName(name, room[:0])
	for _, base := range rd.config.CookieNames {
		if read.is(base) || strings.Contains(pair, base) && isSeparated(pair) {
			return true
		}
	}
	return strings.Contains(pair, "%") && holdsForeign(pair, rd.config.CookieNames)
}

// holdsForeign reports whether a pair holds a cookie with one of the names. It is a
// function of its own so that the others do not allocate.
func holdsForeign(pair string, names []string) bool {
	for range splitForeign(pair, names) {
		return true
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

// isSeparated reports whether a pair may be several cookies to some parser.
func isSeparated(pair string) bool {
	pair = strings.TrimLeft(pair, " ")
	for i := range len(pair) {
		if c := pair[i]; c <= ' ' || c == ',' || c >= utf8.RuneSelf {
			return strings.ContainsFunc(pair[i:], isSeparator)
		}
	}
	return false
}

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

// foreignName is a name as a parser may read it: trimmed, or with escapes decoded.
type foreignName struct {
	plain   string
	decoded []byte
}

// readName reads a name, in the memory of room if it fits. PHP ends it at a zero byte.
func readName(name string, room []byte) foreignName {
	name = trimForeign(name)
	if !strings.ContainsAny(name, "%+") {
		return foreignName{plain: name}
	}
	if len(name) > 3*cap(room) {
		room = make([]byte, 0, len(name))
	}
	decoded, _, _ := bytes.Cut(appendForm(room, name, true), []byte{0})
	return foreignName{decoded: trimForeignBytes(decoded)}
}

// is reports whether a parser may take the name for base.
func (n foreignName) is(base string) bool {
	return equalNames(n.plain, base) || equalNames(n.decoded, base)
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

// repeated returns the pairs of cookies with the name base, if there are more than
// two. http.cookies stops at what it cannot parse, and its last one may be any.
func repeated(group []cookie, base string) []string {
	if len(group) < 3 {
		return nil
	}
	var pairs []string
	for _, c := range group {
		if c.name == base {
			pairs = append(pairs, c.pair)
		}
	}
	if len(pairs) < 3 {
		return nil
	}
	return pairs
}

// foreign is a way to read the cookie with a base name from a pair.
type foreign struct {
	base string
	reading
}

// appendForeign appends the readings of pairs by the parsers of other frameworks, as
// cookies with one of the names. It is not ok if they are too many to be judged.
func appendForeign(all []foreign, pairs, names []string) (_ []foreign, ok bool) {
	for _, pair := range pairs {
		if all, ok = appendForeignPair(all, pair, names); !ok {
			return all, false
		}
	}
	return all, true
}

func appendForeignPair(all []foreign, pair string, names []string) (_ []foreign, ok bool) {
	add := func(piece, name string) bool {
		var room [shortName]byte
		read := readName(name, room[:0])
		for _, base := range names {
			if !read.is(base) {
				continue
			}
			from := cookie{pair: pair}
			if len(piece) == len(pair) {
				from.name = trim(name)
			}
			texts := foreignValues(piece[min(len(name)+1, len(piece)):])
			if len(texts) > maxForeignValues || len(all) > maxForeignReadings {
				return false
			}
			for _, text := range texts {
				all = append(all, foreign{base, reading{text, []cookie{from}}})
			}
		}
		return true
	}
	name, _, _ := strings.Cut(pair, "=")
	if !add(pair, name) {
		return all, false
	}
	for piece, name := range splitForeign(pair, names) {
		if !add(piece, name) {
			return all, false
		}
	}
	return all, true
}

// splitForeign returns the cookies that a pair consists of if whitespace, commas, or
// both separate cookies, and their raw names: those that can have one of the given.
func splitForeign(pair string, names []string) iter.Seq2[string, string] {
	return func(yield func(piece, name string) bool) {
		if !isSeparated(pair) || !strings.Contains(pair, "%") && !slices.ContainsFunc(names, func(base string) bool { return strings.Contains(pair, base) }) {
			return
		}
		if name, value, _ := strings.Cut(pair, "="); !isSeparated(name) && !strings.Contains(value, "=") && !isOneOf(name, names) {
			return // it has one name, which is another
		}
		shortest := len(slices.MinFunc(names, func(a, b string) int { return len(a) - len(b) }))
		ways := []func(c rune) bool{isSeparator}
		if strings.Contains(pair, ",") {
			ways = append(ways, func(c rune) bool { return c == ',' }, func(c rune) bool { return c != ',' && isSeparator(c) })
		}
		isOurs := func(piece string) bool {
			name := before(piece, "=")
			return len(name) >= shortest && isOneOf(name, names)
		}
		for _, separates := range ways {
			last, unfinished := "", "" // there may be blanks around the equals sign
			for field := range strings.FieldsFuncSeq(pair, separates) {
				if unfinished != "" && isOurs(unfinished) && !yield(unfinished+field, before(unfinished, "=")) {
					return
				}
				piece := field
				if strings.HasPrefix(field, "=") && isOurs(last) {
					piece = last + field
				}
				if last, unfinished = field, ""; strings.HasSuffix(piece, "=") {
					unfinished = piece
				}
				if strings.Contains(piece, "=") && isOurs(piece) && !yield(piece, before(piece, "=")) {
					return
				}
			}
		}
	}
}

// isOneOf reports whether a parser may take a name for one of the given.
func isOneOf(name string, names []string) bool {
	var room [shortName]byte
	return slices.ContainsFunc(names, readName(name, room[:0]).is)
}

// before returns what is before a separator in a text.
func before(text, separator string) string {
	text, _, _ = strings.Cut(text, separator)
	return text
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
	var all, tried []string
	add := func(text string) {
		if dots := strings.Count(text, "."); (dots == 2 || dots == 4) && len(all) <= maxForeignValues && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	for _, text := range []string{value, unquoted, decodeValue(raw), unescapeForm(value, true), unescapeForm(value, false), unescapeForm(unquoted, false)} {
		if slices.Contains(tried, text) {
			continue
		}
		tried = append(tried, text)
		add(text)
		if signed, found := strings.CutPrefix(text, "s:"); found { // cookie-signature
			if end := strings.LastIndexByte(signed, '.'); end >= 0 {
				text = signed[:end]
				add(text)
			}
		}
		if encoded, found := strings.CutPrefix(text, "j:"); found {
			eachText(encoded, add)
		}
	}
	return all
}

// eachText calls a function with each text of a JSON cookie of Express that can be a
// token.
func eachText(encoded string, found func(text string)) {
	if !json.Valid([]byte(encoded)) {
		return
	}
	for {
		_, rest, more := strings.Cut(encoded, `"`)
		if !more {
			return
		}
		end := 0
		for ; rest[end] != '"'; end++ { // there is one, as it is valid
			if rest[end] == '\\' {
				end++
			}
		}
		text := rest[:end]
		encoded = rest[end+1:]
		isName := strings.HasPrefix(strings.TrimLeft(encoded, " \t\r\n"), ":")
		switch {
		case isName:
		case strings.Contains(text, `\`):
			var decoded string
			if json.Unmarshal([]byte(`"`+text+`"`), &decoded) == nil {
				found(decoded)
			}
		default:
			found(text)
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
