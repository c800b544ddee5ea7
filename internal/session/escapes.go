package session

import (
	"strings"
	"unicode/utf8"
)

// decodeURIComponent is ECMAScript's, for a text of Latin-1 characters as Node
// makes them from a header. Where that throws, most cookie readers keep the
// text as it is, and so does this.
func decodeURIComponent(text string) string {
	if decoded, ok := decodeStrictly(text); ok {
		return decoded
	}
	return text
}

// decodeStrictly is decodeURIComponent, not ok where that throws.
func decodeStrictly(text string) (string, bool) {
	if !strings.Contains(text, "%") {
		return text, true
	}
	decoded := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if text[i] != '%' {
			decoded = append(decoded, text[i])
			i++
			continue
		}
		character, size := escaped(text[i:])
		if size == 0 {
			return "", false
		}
		decoded = append(decoded, character...)
		i += size
	}
	return string(decoded), true
}

// escaped decodes the escapes of one UTF-8 character at the beginning of text,
// and returns how much of the text they take: 0 when they are malformed.
func escaped(text string) (character []byte, size int) {
	first, ok := escapedByte(text)
	if !ok {
		return nil, 0
	}
	character = append(character, first)
	length := 1
	switch {
	case first >= 0xf0:
		length = 4
	case first >= 0xe0:
		length = 3
	case first >= 0xc0:
		length = 2
	}
	for len(character) < length {
		next, ok := escapedByte(text[3*len(character):])
		if !ok {
			return nil, 0
		}
		character = append(character, next)
	}
	if !utf8.Valid(character) {
		return nil, 0
	}
	return character, 3 * length
}

// escapedByte decodes one escape, such as %2D.
func escapedByte(text string) (byte, bool) {
	if len(text) < 3 || text[0] != '%' {
		return 0, false
	}
	high, low := digit(text[1]), digit(text[2])
	return byte(high*16 + low), high < 16 && low < 16
}
