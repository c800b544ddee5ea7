package session

import (
	"strings"
	"unicode/utf8"
)

// decodeURIComponent decodes text as the function of that name in ECMAScript
// does. Where that throws, it returns the text unchanged, as most cookie parsers
// do.
func decodeURIComponent(text string) string {
	if decoded, ok := tryDecodeURIComponent(text); ok {
		return decoded
	}
	return text
}

// tryDecodeURIComponent is decodeURIComponent, but not ok where that throws.
func tryDecodeURIComponent(text string) (string, bool) {
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
		character, size := decodeCharacter(text[i:])
		if size == 0 {
			return "", false
		}
		decoded = append(decoded, character...)
		i += size
	}
	return string(decoded), true
}

// decodeCharacter decodes the escapes of the UTF-8 character at the beginning of
// text, and returns their length, or 0 if they are malformed.
func decodeCharacter(text string) (character []byte, size int) {
	first, ok := decodeByte(text)
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
		next, ok := decodeByte(text[3*len(character):])
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

// decodeByte decodes the escape at the beginning of text, such as %2D.
func decodeByte(text string) (byte, bool) {
	if len(text) < 3 || text[0] != '%' {
		return 0, false
	}
	high, low := digit(text[1]), digit(text[2])
	return byte(high*16 + low), high < 16 && low < 16
}
