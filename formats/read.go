package formats

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Values returns the values of the cookies with a name, without duplicates, in the
// order in which they came: some apps read the first, some the last.
func Values(parts []Part, name string) []Reading {
	var all []Reading
	for i, p := range parts {
		if p.Header == "" && p.Name == name && !slices.ContainsFunc(all, func(r Reading) bool { return r.Text == p.Value }) {
			all = append(all, Reading{Text: p.Value, Parts: []int{i}})
		}
	}
	return all
}

// Begins reports whether the value of a cookie begins with a text, given the value as
// it was sent: behind blanks and a quote, and with percent-escapes. It does not allocate.
func Begins(value, text string) bool {
	for value != "" && (value[0] == ' ' || '\t' <= value[0] && value[0] <= '\r' || value[0] == 0xa0) {
		value = value[1:]
	}
	value = strings.TrimPrefix(value, `"`)
	for i := range len(text) {
		if value == "" {
			return false
		}
		c := value[0]
		if high, low, ok := escape(value); ok {
			c, value = high<<4|low, value[2:]
		}
		if value = value[1:]; c != text[i] {
			return false
		}
	}
	return true
}

// escape returns the digits of a percent-escape at the beginning of a text.
func escape(text string) (high, low byte, ok bool) {
	if len(text) < 3 || text[0] != '%' {
		return 0, 0, false
	}
	const digits = "0123456789abcdef"
	first, second := strings.IndexByte(digits, text[1]|0x20), strings.IndexByte(digits, text[2]|0x20)
	return byte(first), byte(second), first >= 0 && second >= 0 //nolint:gosec // of 16
}

// maxChunks bounds the chunks that are joined. No library writes more.
const maxChunks = 100

// IsChunk reports whether a name is that of a chunk: see ChunkNumber.
func IsChunk(name, base, separator string) bool {
	_, ok := ChunkNumber(name, base, separator)
	return ok
}

// Whole returns the name of a cookie without the separator and the number of a chunk, if
// it has them. It does not allocate.
func Whole(name, separator string) string {
	if at := strings.LastIndex(name, separator); at > 0 && IsChunk(name, name[:at], separator) {
		return name[:at]
	}
	return name
}

// ChunkNumber returns the number of a chunk, whose name is base, separator and a decimal
// number without leading zeros, of three digits at most.
func ChunkNumber(name, base, separator string) (number int, ok bool) {
	rest, ok := strings.CutPrefix(name, base)
	if !ok {
		return 0, false
	}
	digits, ok := strings.CutPrefix(rest, separator)
	if !ok || digits == "" || len(digits) > 3 || digits[0] == '0' && len(digits) > 1 {
		return 0, false
	}
	parsed, err := strconv.ParseUint(digits, 10, 16)
	return int(parsed), err == nil
}

// Joined returns what the chunks of a cookie say together, joined by their numbers:
// of chunks with the same number the first, and, if that differs, the last. Gaps are
// ignored; upToGap also returns what is before the first one.
func Joined(parts []Part, base, separator string, upToGap bool) []Reading {
	first, last := make(map[int]int), make(map[int]int)
	var numbers []int
	for i, p := range parts {
		number, ok := ChunkNumber(p.Name, base, separator)
		if !ok || p.Header != "" {
			continue
		}
		if _, known := first[number]; !known {
			first[number] = i
			numbers = append(numbers, number)
		}
		last[number] = i
	}
	if len(numbers) == 0 || len(numbers) > maxChunks {
		return nil
	}
	slices.Sort(numbers)
	whole := len(numbers)
	for i, number := range numbers {
		if upToGap && number != i+numbers[0] {
			whole = i
			break
		}
	}
	var all []Reading
	for _, numbers := range [][]int{numbers, numbers[:whole]} {
		for _, chosen := range []map[int]int{first, last} {
			var r Reading
			var text strings.Builder
			for _, number := range numbers {
				r.Parts = append(r.Parts, chosen[number])
				text.WriteString(parts[chosen[number]].Value)
			}
			r.Text = text.String()
			if !slices.ContainsFunc(all, func(known Reading) bool { return known.Text == r.Text }) {
				all = append(all, r)
			}
		}
	}
	return all
}

// Bearer returns the token of an Authorization field: the first word behind the scheme,
// which is all that some apps read. It is empty if there is none.
func Bearer(field string) string {
	field = strings.TrimSpace(field)
	end := strings.IndexFunc(field, unicode.IsSpace)
	if end < 0 || !strings.EqualFold(field[:end], "Bearer") {
		return ""
	}
	token := strings.TrimSpace(field[end:])
	if end := strings.IndexFunc(token, unicode.IsSpace); end >= 0 {
		token = token[:end]
	}
	return token
}
