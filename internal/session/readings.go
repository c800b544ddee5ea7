package session

import (
	"math"
	"slices"
	"strings"
)

// reading is one way to put a token together from the cookies of a base name.
type reading struct {
	text  string
	names []string
}

// appendReadings appends the ways in which apps read the cookies of a base
// name. Of doubled names some take the first (next-auth 4.24 in the pages router,
// @auth/core), some the last (next-auth 4.24 in the app router). All join
// every cookie whose name begins with the base name; an app's own code takes
// the exact name alone.
func appendReadings(all []reading, group []cookie, base string) []reading {
	plain := !slices.ContainsFunc(group, cookie.isOdd)
	if !plain && slices.ContainsFunc(group, cookie.isNone) {
		group = slices.DeleteFunc(slices.Clone(group), cookie.isNone)
	}
	switch {
	case len(group) == 0:
		return all
	case len(group) == 1 && plain:
		return append(all, reading{group[0].value, nil})
	}
	first := distinct(group, false)
	jars := [][]cookie{first}
	if len(first) != len(group) {
		jars = append(jars, distinct(group, true))
	}
	if !plain {
		jars = append(jars, asCookie7HasIt(group, base), asNextHasIt(group, base))
	}
	for _, jar := range jars {
		if len(jar) == 0 {
			continue
		}
		all = append(all, joined(jar, false))
		if slices.ContainsFunc(jar, func(c cookie) bool { return c.value == "" || strings.HasSuffix(c.name, ".") }) {
			all = append(all, joined(jar, true))
		}
		if i := slices.IndexFunc(jar, func(c cookie) bool { return c.name == base }); i >= 0 && len(jar) > 1 {
			all = append(all, reading{jar[i].value, []string{base}})
		}
	}
	return all
}

// isOdd tells whether readers of cookies may differ about the value.
func (c cookie) isOdd() bool {
	return len(strings.TrimLeft(c.pair, " ")) != len(c.name)+len("=")+len(c.value) || strings.Contains(c.pair, "%")
}

// isNone tells whether there is a name alone, which most readers of cookies
// pass over: of doubled names the next one is the first to them.
func (c cookie) isNone() bool { return !strings.Contains(c.pair, "=") }

// asCookie7HasIt returns the cookies of a group as npm's cookie 0.7 and
// @auth/core parse them: only spaces and tabs are blanks, quotes come off in
// pairs, and of doubled names the first counts.
func asCookie7HasIt(group []cookie, base string) []cookie {
	var jar []cookie
	for _, c := range group {
		name, value, _ := strings.Cut(c.pair, "=")
		if name = strings.Trim(name, " \t"); !strings.HasPrefix(name, base) {
			continue
		}
		value = strings.Trim(value, " \t")
		if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		jar = append(jar, cookie{name, decodeURIComponent(value), c.pair})
	}
	return distinct(jar, false)
}

// asNextHasIt returns the cookies of a group as the app router of Next.js
// parses them (parseCookie of @edge-runtime/cookies 6): names are as they came,
// quotes stay, what cannot be decoded is left out, and of doubled names the last
// counts. Blanks around values stay there too, which no decoder heeds.
func asNextHasIt(group []cookie, base string) []cookie {
	var jar []cookie
	for _, c := range group {
		name, value, _ := strings.Cut(strings.TrimLeft(c.pair, " "), "=")
		value, ok := decodeStrictly(trim(value))
		if ok && strings.HasPrefix(name, base) {
			jar = append(jar, cookie{name, value, c.pair})
		}
	}
	return distinct(jar, true)
}

// distinct returns the cookies of a group with one of each name: the first, or
// the last in the first one's place, as a JavaScript Map has it.
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

// joined joins cookies in the order of SessionStore in next-auth 4.24
// (core/lib/cookie.ts) and @auth/core 0.41 (lib/utils/cookie.ts): by the
// number after the last dot of the name. To @auth/core, nothing after it is 0,
// and cookies without a value are none.
func joined(jar []cookie, v5 bool) reading {
	if v5 {
		jar = slices.DeleteFunc(slices.Clone(jar), func(c cookie) bool { return c.value == "" })
	}
	if len(jar) == 1 {
		return reading{jar[0].value, appendNames(nil, jar)}
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
	return reading{text.String(), appendNames(nil, sorted)}
}

// chunkNumber is JavaScript's parseInt of what stands after the last dot.
func chunkNumber(name string) float64 {
	return parseInt(name[strings.LastIndexByte(name, '.')+1:])
}

// parseInt is that of ECMAScript without a radix: leading blanks, a sign, 0x,
// and as many digits as there are. NaN when there is none.
func parseInt(s string) float64 {
	for s != "" && isBlank(s[0]) {
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

// sortV8 sorts as Array.prototype.sort of V8 does below 64 elements (TimSort's
// first run, then binary insertion). A comparison with NaN counts as equal, so
// that the comparisons can contradict each other: then the result depends on
// the algorithm, and with it the token that the app reads.
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

// firstRun returns the length of the run that the elements begin with, which
// it turns round when it descends.
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
