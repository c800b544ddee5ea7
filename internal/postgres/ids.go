package postgres

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/uuid"
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
		return uuid.Canonical(subject)
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
