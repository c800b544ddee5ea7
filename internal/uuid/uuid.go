// Package uuid spells UUIDs in one way.
package uuid

import "bytes"

// size is the number of hexadecimal digits of a UUID.
const size = 32

// Canonical returns a UUID in the text form of RFC 9562, in lower case; not ok if
// the text is no UUID. It accepts every form that Postgres does: upper case,
// braces, and no hyphens, or hyphens after any group of four digits.
func Canonical(text []byte) (canonical []byte, ok bool) {
	if isCanonical(text) {
		return text, true
	}
	if len(text) > 1 && text[0] == '{' && text[len(text)-1] == '}' {
		text = text[1 : len(text)-1]
	}
	if len(text) < size || len(text) >= size+size/4 {
		return nil, false
	}
	canonical = make([]byte, 0, size+4)
	digits := 0
	for i, c := range text {
		switch {
		case c == '-':
			if digits == 0 || digits%4 != 0 || digits == size || text[i-1] == '-' {
				return nil, false
			}
			continue
		case !isHex(c) || digits == size:
			return nil, false
		case digits == 8 || digits == 12 || digits == 16 || digits == 20:
			canonical = append(canonical, '-')
		}
		canonical = append(canonical, c)
		digits++
	}
	return bytes.ToLower(canonical), digits == size
}

// isCanonical reports whether a text is a UUID in the text form of RFC 9562, in
// lower case.
func isCanonical(text []byte) bool {
	if len(text) != size+4 {
		return false
	}
	for i, c := range text {
		switch hyphen := i == 8 || i == 13 || i == 18 || i == 23; {
		case hyphen && c != '-', !hyphen && (!isHex(c) || c >= 'A' && c <= 'F'):
			return false
		}
	}
	return true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
