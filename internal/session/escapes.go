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
		var size int
		if decoded, size = appendCharacter(decoded, text[i:]); size == 0 {
			return "", false
		}
		i += size
	}
	return string(decoded), true
}

// appendCharacter appends the UTF-8 character whose escapes text begins with, and
// returns their length, or 0 if they are malformed.
func appendCharacter(dst []byte, text string) (all []byte, size int) {
	start := len(dst)
	length := 1
	for i := 0; i < length; i++ {
		c, ok := decodeByte(text[min(3*i, len(text)):])
		if !ok {
			return dst, 0
		}
		dst = append(dst, c)
		switch {
		case i > 0:
		case c >= 0xf0:
			length = 4
		case c >= 0xe0:
			length = 3
		case c >= 0xc0:
			length = 2
		}
	}
	if !utf8.Valid(dst[start:]) {
		return dst, 0
	}
	return dst, 3 * length
}

// decodeByte decodes the escape at the beginning of text, such as %2D.
func decodeByte(text string) (byte, bool) {
	if len(text) < 3 || text[0] != '%' {
		return 0, false
	}
	high, low := hexDigits[text[1]], hexDigits[text[2]]
	return (high-1)<<4 | (low - 1), high != 0 && low != 0
}

// hexDigits are the values of hexadecimal digits plus one, and 0 of all other bytes.
var hexDigits = func() (values [256]byte) {
	for value, c := range []byte("0123456789abcdef") {
		values[c] = byte(value) + 1
		values[strings.ToUpper(string(c))[0]] = values[c]
	}
	return values
}()
