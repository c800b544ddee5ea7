package betterauth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// value is what JSON.parse of JavaScript returns. Better Auth signs what
// JSON.stringify makes of it, and not the text itself: somebody can write the same
// cache in another way, with blanks or escapes, and it stays valid.
type value struct {
	kind    kind
	text    string // of all but objects and arrays, as JSON.stringify writes it
	members []member
	items   []*value
}

type member struct {
	name  string // as JSON.stringify writes it
	value *value
}

type kind int

const (
	literal kind = iota
	number
	quoted
	object
	array
)

// maxDepth is more than fits into the headers that Node accepts.
const maxDepth = 16 << 10

// parser parses JSON.
type parser struct {
	rest  []byte
	depth int
}

// parseJSON parses a text as JSON.parse does.
func parseJSON(text []byte) (*value, bool) {
	p := &parser{rest: text}
	v := p.value()
	p.skipBlanks()
	return v, v != nil && len(p.rest) == 0
}

func (p *parser) skipBlanks() { p.rest = bytes.TrimLeft(p.rest, " \t\r\n") }

// skip skips a character after blanks. It reports whether it was there.
func (p *parser) skip(c byte) bool {
	p.skipBlanks()
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// numeral is a number of JSON.
var numeral = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`)

// maxPlain is how many digits a number has at most that JavaScript writes as they are.
const maxPlain = 15

// plain returns the digits that a text begins with, if they are a number that is written
// again as it is: anybody can send many.
func plain(text []byte) []byte {
	end := 0
	for end < len(text) && '0' <= text[end] && text[end] <= '9' {
		end++
	}
	if end == 0 || end > maxPlain || end > 1 && text[0] == '0' || end < len(text) && (text[end] == '.' || text[end]|0x20 == 'e') {
		return nil
	}
	return text[:end]
}

// value parses a value; nil if there is none.
func (p *parser) value() *value {
	p.skipBlanks()
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(p.rest, []byte(word)) {
			p.rest = p.rest[len(word):]
			return &value{text: word}
		}
	}
	switch {
	case len(p.rest) == 0:
		return nil
	case p.rest[0] == '{', p.rest[0] == '[':
		p.depth++
		defer func() { p.depth-- }()
		switch {
		case p.depth > maxDepth:
			return nil
		case p.skip('{'):
			return p.object()
		}
		p.skip('[')
		return p.array()
	case p.rest[0] == '"':
		if text, ok := p.quoted(); ok {
			return &value{kind: quoted, text: revived(text)}
		}
		return nil
	}
	if digits := plain(p.rest); digits != nil {
		p.rest = p.rest[len(digits):]
		return &value{kind: number, text: string(digits)}
	}
	digits := numeral.Find(p.rest)
	if digits == nil {
		return nil
	}
	p.rest = p.rest[len(digits):]
	f, _ := strconv.ParseFloat(string(digits), 64) // infinite if it is too large
	if math.IsInf(f, 0) {
		return &value{text: "null"}
	}
	if f == 0 {
		f = 0 // not -0
	}
	text, _ := json.Marshal(f) // as ECMAScript writes it
	return &value{kind: number, text: string(text)}
}

func (p *parser) object() *value {
	v := &value{kind: object}
	if p.skip('}') {
		return v
	}
	at := make(map[string]int)
	for {
		p.skipBlanks()
		name, ok := p.quoted()
		if !ok || !p.skip(':') {
			return nil
		}
		inner := p.value()
		if inner == nil {
			return nil
		}
		if i, known := at[name]; known {
			v.members[i].value = inner
		} else {
			at[name] = len(v.members)
			v.members = append(v.members, member{name, inner})
		}
		switch {
		case p.skip(','):
		case p.skip('}'):
			v.order()
			return v
		default:
			return nil
		}
	}
}

// order puts the members that are array indices first, as JavaScript does.
func (v *value) order() {
	if !slices.ContainsFunc(v.members, func(m member) bool { return m.index() < math.MaxUint32 }) {
		return
	}
	type ordered struct {
		member
		index uint64
	}
	all := make([]ordered, len(v.members))
	for i, m := range v.members {
		all[i] = ordered{m, m.index()}
	}
	slices.SortStableFunc(all, func(a, b ordered) int { return cmp.Compare(a.index, b.index) })
	for i := range all {
		v.members[i] = all[i].member
	}
}

// index returns the array index that a member is; more than any if it is none.
func (m member) index() uint64 {
	digits := plain([]byte(m.name[1:]))
	if len(digits) != len(m.name)-len(`""`) {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil || n >= math.MaxUint32 {
		return math.MaxUint64
	}
	return n
}

func (p *parser) array() *value {
	v := &value{kind: array}
	if p.skip(']') {
		return v
	}
	for {
		inner := p.value()
		if inner == nil {
			return nil
		}
		v.items = append(v.items, inner)
		switch {
		case p.skip(','):
		case p.skip(']'):
			return v
		default:
			return nil
		}
	}
}

// quoted parses a string, and returns it as JSON.stringify writes it.
func (p *parser) quoted() (string, bool) {
	if len(p.rest) == 0 || p.rest[0] != '"' {
		return "", false
	}
	text := []byte{'"'}
	for i := 1; i < len(p.rest); {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return string(append(text, '"')), true
		case c < ' ':
			return "", false
		case c != '\\':
			text = append(text, c)
			i++
			continue
		}
		unit, size := escape(p.rest[i:])
		if size == 0 {
			return "", false
		}
		i += size
		if utf16.IsSurrogate(unit) {
			if low, more := escape(p.rest[i:]); more > 0 {
				if whole := utf16.DecodeRune(unit, low); whole != utf8.RuneError {
					unit, i = whole, i+more
				}
			}
		}
		text = appendCharacter(text, unit)
	}
	return "", false
}

// escape decodes the escape at the beginning of a text, and returns its size; 0 if
// there is none.
func escape(text []byte) (unit rune, size int) {
	if len(text) < 2 || text[0] != '\\' {
		return 0, 0
	}
	if at := strings.IndexByte(`"\/bfnrt`, text[1]); at >= 0 {
		return rune("\"\\/\b\f\n\r\t"[at]), 2
	}
	if text[1] != 'u' || len(text) < 6 {
		return 0, 0
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0, 0
	}
	return rune(n), 6
}

// appendCharacter appends a character as JSON.stringify writes it.
func appendCharacter(text []byte, c rune) []byte {
	if at := strings.IndexRune("\"\\\b\f\n\r\t", c); at >= 0 {
		return append(text, '\\', `"\bfnrt`[at])
	}
	if c < ' ' || utf16.IsSurrogate(c) {
		const digits = "0123456789abcdef"
		return append(text, '\\', 'u', digits[c>>12&15], digits[c>>8&15], digits[c>>4&15], digits[c&15])
	}
	return utf8.AppendRune(text, c)
}

// moment is a time that Better Auth makes a Date of.
var moment = regexp.MustCompile(`^"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?Z"$`)

// revived returns a string as it is written again after Better Auth has made a Date
// of it, if it is a time.
func revived(text string) string {
	found := moment.FindStringSubmatch(text)
	if found == nil {
		return text
	}
	var n [7]int
	for i := range 6 {
		n[i], _ = strconv.Atoi(found[i+1])
	}
	n[6], _ = strconv.Atoi((found[7] + "000")[:3])
	midnight := n[3] == 24 && n[4]+n[5] == 0 && strings.Trim(found[7], "0") == ""
	if n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > 31 || n[3] > 23 && !midnight || n[4] > 59 || n[5] > 59 {
		return text
	}
	at := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], n[6]*int(time.Millisecond), time.UTC)
	return at.Format(`"2006-01-02T15:04:05.000Z"`)
}

// member returns a member of an object; nil if there is none.
func (v *value) member(name string) *value {
	for _, m := range v.members {
		if m.name == `"`+name+`"` {
			return m.value
		}
	}
	return nil
}

// set sets a member of an object.
func (v *value) set(name string, to *value) {
	for i := range v.members {
		if v.members[i].name == `"`+name+`"` {
			v.members[i].value = to
			return
		}
	}
	v.members = append(v.members, member{`"` + name + `"`, to})
}

// unquoted returns the text of a string without escapes; empty for anything else.
func (v *value) unquoted() string {
	if v == nil || v.kind != quoted {
		return ""
	}
	return v.text[1 : len(v.text)-1]
}

// append appends what JSON.stringify writes.
func (v *value) append(text []byte) []byte {
	switch v.kind {
	case object:
		text = append(text, '{')
		for i, m := range v.members {
			if i > 0 {
				text = append(text, ',')
			}
			text = m.value.append(append(append(text, m.name...), ':'))
		}
		return append(text, '}')
	case array:
		text = append(text, '[')
		for i, item := range v.items {
			if i > 0 {
				text = append(text, ',')
			}
			text = item.append(text)
		}
		return append(text, ']')
	}
	return append(text, v.text...)
}
