package betterauth

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// decodeBase64 decodes base64 as @better-auth/utils does: what follows an equals sign
// is ignored, and the alphabet is that of URLs if there is a digit of it.
func decodeBase64(text string) ([]byte, bool) {
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding
	}
	text, _, _ = strings.Cut(text, "=")
	if len(text)%4 == 1 {
		if strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_", text[len(text)-1]) < 0 {
			return nil, false
		}
		text = text[:len(text)-1]
	}
	decoded, err := encoding.DecodeString(text)
	return decoded, err == nil
}

// toUTF8 decodes UTF-8 as TextDecoder does: without a byte order mark, and with a
// replacement character for each part that is none (WHATWG Encoding, section 8.1.1).
func toUTF8(text []byte) []byte {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if utf8.Valid(text) {
		return text
	}
	var decoded []byte
	for len(text) > 0 {
		c, size := utf8.DecodeRune(text)
		if c == utf8.RuneError && size == 1 {
			size = truncated(text)
		}
		decoded = utf8.AppendRune(decoded, c)
		text = text[size:]
	}
	return decoded
}

// truncated returns the size of the longest beginning of a text that a character can
// begin with, at least 1.
func truncated(text []byte) int {
	most := 0
	low, high := byte(0x80), byte(0xbf)
	switch c := text[0]; {
	case 0xc2 <= c && c <= 0xdf:
		most = 1
	case 0xe0 <= c && c <= 0xef:
		most = 2
	case 0xf0 <= c && c <= 0xf4:
		most = 3
	}
	switch text[0] {
	case 0xe0:
		low = 0xa0
	case 0xed:
		high = 0x9f
	case 0xf0:
		low = 0x90
	case 0xf4:
		high = 0x8f
	}
	size := 1
	for size <= most && size < len(text) && low <= text[size] && text[size] <= high {
		size++
		low, high = 0x80, 0xbf
	}
	return size
}
