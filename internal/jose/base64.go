package jose

import (
	"encoding/base64"
	"slices"
	"strings"
)

// strictBase64 refuses all but the canonical encoding.
var strictBase64 = base64.RawURLEncoding.Strict()

// DecodeBase64 decodes base64url as leniently as the libraries that read tokens do. It
// is not ok if nothing of it can be decoded.
func DecodeBase64(text string) (decoded []byte, ok bool) { return appendBase64(nil, text) }

// appendBase64 decodes base64url as leniently as Buffer.from of Node, which
// jose 4 uses, and appends the result to dst: characters outside the alphabet
// are skipped, + and / stand for - and _, and whatever follows a "=" or an
// incomplete group is ignored. A token with such characters in it is still a
// session to the app.
func appendBase64(dst []byte, text string) (decoded []byte, ok bool) {
	start := len(dst)
	dst = slices.Grow(dst, strictBase64.DecodedLen(len(text)))
	if n, err := strictBase64.Decode(dst[start:cap(dst)], []byte(text)); err == nil {
		return dst[:start+n], true
	}
	text, _, _ = strings.Cut(text, "=")
	text = strings.Map(digit64, text)
	if len(text)%4 == 1 {
		text = text[:len(text)-1]
	}
	n, err := base64.RawURLEncoding.Decode(dst[start:cap(dst)], []byte(text))
	return dst[:start+n], err == nil
}

// digit64 returns the digit of base64url that a character stands for, -1 for none.
func digit64(c rune) rune {
	switch {
	case c == '+':
		return '-'
	case c == '/':
		return '_'
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		return c
	}
	return -1
}

// readSignature decodes a signature, of which decoders read different lengths: up to
// the first "=" (Node), with the text behind it (PHP), or up to one that completes a
// group (Python, Ruby). ends are all of those lengths, in bytes.
func readSignature(text string) (signature []byte, ends []int, ok bool) {
	signature, ok = appendBase64(nil, strings.ReplaceAll(text, "=", ""))
	if !ok || !strings.Contains(text, "=") {
		return signature, []int{len(signature)}, ok
	}
	digits := 0
	for piece := range strings.SplitSeq(text, "=") {
		for _, c := range piece {
			if digit64(c) >= 0 {
				digits++
			}
		}
		if end := digits * 3 / 4; len(ends) == 0 || ends[len(ends)-1] != end {
			ends = append(ends, end)
		}
	}
	return signature, ends, true
}
