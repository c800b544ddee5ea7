package postgres

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// maxSubject is the maximum length of an id, in bytes.
const maxSubject = 255

// kind is the kind of the type of an id column.
type kind int

const (
	kindOther kind = iota
	kindText
	kindUUID
	kindInteger
	kindNumeric
)

// idType is the type of an id column.
type idType struct {
	name string // in SQL, without a length
	kind kind
	bits int // of an integer
}

// idTypeOf returns a type by its name, which has its schema unless that is
// pg_catalog. It is not ok if no subject can be compared with that type.
func idTypeOf(name string) (idType, bool) {
	t := idType{name: name}
	switch name {
	case "text", "character varying", "bpchar", "name":
		t.kind = kindText
	case "character": // alone it is of length 1
		t.name, t.kind = "bpchar", kindText
	case "uuid":
		t.kind = kindUUID
	case "smallint":
		t.kind, t.bits = kindInteger, 16
	case "integer":
		t.kind, t.bits = kindInteger, 32
	case "bigint":
		t.kind, t.bits = kindInteger, 64
	case "numeric":
		t.kind = kindNumeric
	default:
		if !t.ignoresCase() {
			return idType{}, false
		}
		t.kind = kindText
	}
	return t, true
}

// ignoresCase reports whether the type itself ignores the case of letters.
func (t idType) ignoresCase() bool { return strings.HasSuffix(t.name, ".citext") }

// Normalize implements directories.Normalizer. It returns a subject as it is
// until the type of the id column is known.
func (d *Directory) Normalize(subject []byte) []byte {
	if t := d.ids.Load(); t != nil {
		if canonical, ok := t.canonical(subject); ok {
			return canonical
		}
	}
	return subject
}

// prepare returns the ids to look up, and which of the subjects are possible ids.
// It is doubtful if a plausible subject is not.
func (t idType) prepare(queries []directories.Query) (ids []string, possible []bool, doubtful bool) {
	ids, possible = make([]string, 0, len(queries)), make([]bool, len(queries))
	for i, q := range queries {
		id, ok := t.canonical(q.Subject)
		if ok {
			ids = append(ids, string(id))
		}
		possible[i] = ok
		doubtful = doubtful || !ok && plausible(q.Subject)
	}
	return ids, possible, doubtful
}

// canonical returns the one spelling of a subject, so that none has two entries
// in the cache, and the server rejects none. It is not ok if the subject cannot
// be an id of the type: there is no such user.
func (t idType) canonical(subject []byte) ([]byte, bool) {
	if !plausible(subject) {
		return nil, false
	}
	switch t.kind {
	case kindUUID:
		return canonicalUUID(subject)
	case kindInteger:
		return subject, isInteger(subject, t.bits)
	case kindNumeric:
		return subject, isDigits(subject)
	}
	return subject, true
}

// plausible reports whether a subject can be an id of any type.
func plausible(subject []byte) bool {
	return len(subject) > 0 && len(subject) <= maxSubject && utf8.Valid(subject) && bytes.IndexByte(subject, 0) < 0
}

// isInteger reports whether a subject is an integer of that many bits, spelled as
// the server does: " 1", "+1" and "01" are aliases that no app writes.
func isInteger(subject []byte, bits int) bool {
	if !isDigits(subject) || len(subject) > 20 {
		return false
	}
	_, err := strconv.ParseInt(string(subject), 10, bits)
	return err == nil
}

// isDigits reports whether a subject is an integer of any size, spelled as the
// server does.
func isDigits(subject []byte) bool {
	digits := bytes.TrimPrefix(subject, []byte("-"))
	if len(digits) == 0 || digits[0] == '0' && len(subject) > 1 {
		return false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// uuidDigits is the number of hexadecimal digits of a UUID.
const uuidDigits = 32

// canonicalUUID returns the text form of RFC 9562, in lower case. It accepts
// every form that Postgres does: upper case, braces, and no hyphens, or hyphens
// after any group of four digits.
func canonicalUUID(subject []byte) ([]byte, bool) {
	if isCanonicalUUID(subject) {
		return subject, true
	}
	text := subject
	if len(text) > 1 && text[0] == '{' && text[len(text)-1] == '}' {
		text = text[1 : len(text)-1]
	}
	canonical := make([]byte, 0, 36)
	digits := 0
	for i, c := range text {
		switch {
		case c == '-':
			if digits == 0 || digits%4 != 0 || digits == uuidDigits || text[i-1] == '-' {
				return nil, false
			}
			continue
		case !isHex(c) || digits == uuidDigits:
			return nil, false
		case digits == 8 || digits == 12 || digits == 16 || digits == 20:
			canonical = append(canonical, '-')
		}
		canonical = append(canonical, c)
		digits++
	}
	return bytes.ToLower(canonical), digits == uuidDigits
}

// isCanonicalUUID reports whether a subject is a UUID in the text form of RFC
// 9562, in lower case.
func isCanonicalUUID(subject []byte) bool {
	if len(subject) != 36 {
		return false
	}
	for i, c := range subject {
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
