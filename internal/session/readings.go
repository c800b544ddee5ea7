package session

import (
	"math"
	"slices"
	"strings"
)

// reading is one way to read a token from the cookies of a base name.
type reading struct {
	text string
	from []cookie
}

// appendReadings appends the ways in which apps may read the cookies of a base
// name. Of cookies with the same name, some take the first (@auth/core, and
// next-auth 4.24 in the pages router), some the last (next-auth 4.24 in the app
// router). The libraries join all cookies whose name begins with the base name;
// an app's own code may take only the one with the exact name.
func appendReadings(all []reading, group []cookie, base string) []reading {
	plain := !slices.ContainsFunc(group, cookie.isAmbiguous)
	if !plain && slices.ContainsFunc(group, cookie.isNameOnly) {
		group = slices.DeleteFunc(slices.Clone(group), cookie.isNameOnly)
	}
	switch {
	case len(group) == 0:
		return all
	case len(group) == 1 && plain:
		return append(all, reading{group[0].value, group})
	}
	first := distinct(group, false)
	jars := [][]cookie{first}
	if len(first) != len(group) {
		jars = append(jars, distinct(group, true))
	}
	if !plain {
		jars = append(jars, parseCookie7(group, base), parseNext(group, base))
	}
	for _, jar := range jars {
		if len(jar) == 0 {
			continue
		}
		all = append(all, join(jar, false))
		if slices.ContainsFunc(jar, func(c cookie) bool { return c.value == "" || strings.HasSuffix(c.name, ".") }) {
			all = append(all, join(jar, true))
		}
		if i := slices.IndexFunc(jar, func(c cookie) bool { return c.name == base }); i >= 0 && len(jar) > 1 {
			all = append(all, reading{jar[i].value, jar[i : i+1]})
		}
	}
	return all
}

// isAmbiguous reports whether cookie parsers may disagree about the name or
// value.
func (c cookie) isAmbiguous() bool {
	return len(strings.TrimLeft(c.pair, " ")) != len(c.name)+len("=")+len(c.value) || strings.Contains(c.pair, "%")
}

// isDisputed reports whether cookie parsers disagree about the name or value: unlike
// isAmbiguous, not about escapes that all of them decode.
func (c cookie) isDisputed() bool {
	name, value, ok := strings.Cut(strings.TrimLeft(c.pair, " "), "=")
	return !ok || name != c.name || value != trim(value) || strings.HasPrefix(value, `"`) || strings.Contains(value, "%") && value == c.value
}

// isNameOnly reports whether the cookie has no equals sign. Most cookie parsers
// skip such a cookie, so that the next one with its name is the first.
func (c cookie) isNameOnly() bool { return !strings.Contains(c.pair, "=") }

// parseCookie7 parses the cookies of a group as npm's cookie 0.7 and @auth/core
// do: only spaces and tabs are whitespace, quotes are stripped in pairs, and the
// first cookie of a name is used.
func parseCookie7(group []cookie, base string) []cookie { return parseFirst(group, base, true) }

// parseCookie1 parses cookies as npm's cookie 1 does, which keeps quotes.
func parseCookie1(group []cookie) []cookie { return parseFirst(group, "", false) }

func parseFirst(group []cookie, base string, unquote bool) []cookie {
	var jar []cookie
	for _, c := range group {
		name, value, _ := strings.Cut(c.pair, "=")
		if name = strings.Trim(name, " \t"); !strings.HasPrefix(name, base) {
			continue
		}
		value = strings.Trim(value, " \t")
		if unquote && len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		jar = append(jar, cookie{name, decodeURIComponent(value), c.pair, c.owners})
	}
	return distinct(jar, false)
}

// parseNext parses the cookies of a group as the app router of Next.js does
// (parseCookie of @edge-runtime/cookies 6): names and quotes are kept, a value
// that cannot be decoded is dropped, and the last cookie of a name is used. It
// keeps whitespace around values too, but decoding ignores that.
func parseNext(group []cookie, base string) []cookie {
	var jar []cookie
	for _, c := range group {
		name, value, _ := strings.Cut(strings.TrimLeft(c.pair, " "), "=")
		value, ok := tryDecodeURIComponent(trim(value))
		if ok && strings.HasPrefix(name, base) {
			jar = append(jar, cookie{name, value, c.pair, c.owners})
		}
	}
	return distinct(jar, true)
}

// distinct returns the first or last cookie of each name. The last one takes the
// place of the first, as in a JavaScript Map.
func distinct(group []cookie, last bool) []cookie {
	var jar []cookie
	for _, c := range group {
		i := slices.IndexFunc(jar, func(d cookie) bool { return d.name == c.name })
		switch {
		case i < 0:
			jar = append(jar, c)
		case last:
			jar[i] = c
		}
	}
	return jar
}

// join joins chunks as SessionStore does in next-auth 4.24 (core/lib/cookie.ts)
// and, if v5 is set, @auth/core 0.41 (lib/utils/cookie.ts): sorted by the number
// after the last dot of the name. In @auth/core a name that ends with a dot has
// the number 0, and cookies without a value are skipped.
func join(jar []cookie, v5 bool) reading {
	if v5 {
		jar = slices.DeleteFunc(slices.Clone(jar), func(c cookie) bool { return c.value == "" })
	}
	if len(jar) == 1 {
		return reading{jar[0].value, jar}
	}
	number := func(name string) float64 {
		if v5 && strings.HasSuffix(name, ".") {
			return 0
		}
		return chunkNumber(name)
	}
	sorted := sortV8(jar, func(a, b cookie) float64 { return number(a.name) - number(b.name) })
	var text strings.Builder
	for _, c := range sorted {
		text.WriteString(c.value)
	}
	return reading{text.String(), sorted}
}

// chunkNumber returns JavaScript's parseInt of what follows the last dot.
func chunkNumber(name string) float64 {
	return parseInt(name[strings.LastIndexByte(name, '.')+1:])
}

// parseInt parses a number as the function of that name in ECMAScript does
// without a radix: leading whitespace, a sign, 0x, digits, and anything after
// them. It is NaN without digits.
func parseInt(s string) float64 {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	sign := 1.0
	if s != "" && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	radix := 10.0
	if len(s) >= 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		radix, s = 16, s[2:]
	}
	value, digits := 0.0, 0
	for ; digits < len(s); digits++ {
		d := digit(s[digits])
		if d >= radix {
			break
		}
		value = value*radix + d
	}
	if digits == 0 {
		return math.NaN()
	}
	return sign * value
}

func digit(c byte) float64 {
	switch {
	case '0' <= c && c <= '9':
		return float64(c - '0')
	case 'a' <= c && c <= 'f':
		return float64(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return float64(c-'A') + 10
	}
	return 99
}

// sortV8 sorts as V8's Array.prototype.sort does for fewer than 64 elements:
// TimSort's first run, then binary insertion. NaN compares equal to everything,
// so comparisons can contradict each other; the order, and with it the token
// that the app reads, then depends on the algorithm.
func sortV8(jar []cookie, compare func(a, b cookie) float64) []cookie {
	sorted := slices.Clone(jar)
	start := firstRun(sorted, compare)
	for i := start; i < len(sorted); i++ {
		pivot := sorted[i]
		left, right := 0, i
		for left < right {
			middle := left + (right-left)/2
			if compare(pivot, sorted[middle]) < 0 {
				right = middle
			} else {
				left = middle + 1
			}
		}
		copy(sorted[left+1:i+1], sorted[left:i])
		sorted[left] = pivot
	}
	return sorted
}

// firstRun returns the length of the run at the beginning. It reverses a
// descending run.
func firstRun(jar []cookie, compare func(a, b cookie) float64) int {
	if len(jar) < 2 {
		return len(jar)
	}
	descending := compare(jar[1], jar[0]) < 0
	end := 2
	for end < len(jar) && (compare(jar[end], jar[end-1]) < 0) == descending {
		end++
	}
	if descending {
		slices.Reverse(jar[:end])
	}
	return end
}
