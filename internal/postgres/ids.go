package postgres

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// maxSubject is how long an id can be, in bytes.
const maxSubject = 255

// kind is the kind of type that an id column has.
type kind int

const (
	kindOther kind = iota
	kindText
	kindUUID
	kindInteger
)

// idType is the type of an id column.
type idType struct {
	name string // as SQL has it, without a length
	kind kind
	bits int // of an integer
}

// idTypeOf tells what is known of a type. It is not ok for a type that no
// subject can be compared with.
func idTypeOf(name string) (idType, bool) {
	switch base := name[strings.LastIndexByte(name, '.')+1:]; base {
	case "text", "character varying", "bpchar", "character", "citext", "name":
		if base == "character" {
			name = "bpchar" // "character" alone is of length 1
		}
		return idType{name: name, kind: kindText}, true
	case "uuid":
		return idType{name: name, kind: kindUUID}, true
	case "smallint":
		return idType{name: name, kind: kindInteger, bits: 16}, true
	case "integer":
		return idType{name: name, kind: kindInteger, bits: 32}, true
	case "bigint", "numeric":
		return idType{name: name, kind: kindInteger, bits: 64}, true
	}
	return idType{}, false
}

// Normalize implements directories.Normalizer: it returns the canonical form of
// a subject, as far as the type of the id is known.
func (d *Directory) Normalize(subject []byte) []byte {
	if t := d.ids.Load(); t != nil {
		if canonical, ok := t.canonical(subject); ok {
			return canonical
		}
	}
	return subject
}

// prepare returns the ids that are asked for, and which of the subjects they
// are. It is doubtful when a subject cannot be an id of the type.
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

// canonical returns the one form of a subject, so that none has two entries in
// the cache and none is refused by the server. It is not ok for a text that
// cannot be an id of the type: no such user.
func (t idType) canonical(subject []byte) ([]byte, bool) {
	if !plausible(subject) {
		return nil, false
	}
	switch t.kind {
	case kindUUID:
		return canonicalUUID(subject)
	case kindInteger:
		return subject, isInteger(subject, t.bits)
	}
	return subject, true
}

// plausible reports whether a subject can be an id of any type.
func plausible(subject []byte) bool {
	return len(subject) > 0 && len(subject) <= maxSubject && utf8.Valid(subject) && bytes.IndexByte(subject, 0) < 0
}

// isInteger reports whether a subject is an integer of so many bits, as the
// server writes it: " 1", "+1" and "01" are aliases.
func isInteger(subject []byte, bits int) bool {
	digits := bytes.TrimPrefix(subject, []byte("-"))
	if len(digits) == 0 || len(digits) > 19 || digits[0] == '0' && len(subject) > 1 {
		return false
	}
	_, err := strconv.ParseInt(string(subject), 10, bits)
	return err == nil && digits[0] != '+'
}

// canonicalUUID is the text form of RFC 9562, in lower case. Postgres takes
// others too, but no app writes them.
func canonicalUUID(subject []byte) ([]byte, bool) {
	if len(subject) != 36 {
		return nil, false
	}
	for i, c := range subject {
		switch hyphen := i == 8 || i == 13 || i == 18 || i == 23; {
		case hyphen && c != '-', !hyphen && !isHex(c):
			return nil, false
		case 'A' <= c && c <= 'F':
			return canonicalUUID(bytes.ToLower(subject))
		}
	}
	return subject, true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
