package directory

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxSubject is how long a subject can be, in bytes.
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

// canonical returns the one form of a subject, so that none has two entries in
// the cache and none is refused by the server. It is not ok for a text that
// cannot be an id of the type: no such user.
func (t idType) canonical(subject string) (string, bool) {
	if !plausible(subject) {
		return "", false
	}
	switch t.kind {
	case kindUUID:
		return canonicalUUID(subject)
	case kindInteger:
		n, err := strconv.ParseInt(subject, 10, t.bits)
		if err != nil || strconv.FormatInt(n, 10) != subject { // " 1", "+1" and "01" are aliases
			return "", false
		}
	}
	return subject, true
}

// plausible tells whether a subject can be an id of any type.
func plausible(subject string) bool {
	return subject != "" && len(subject) <= maxSubject && utf8.ValidString(subject) && !strings.Contains(subject, "\x00")
}

// canonicalUUID is the text form of RFC 9562, in lower case. Postgres takes
// others too, but no app writes them.
func canonicalUUID(subject string) (string, bool) {
	if len(subject) != 36 {
		return "", false
	}
	lower := strings.ToLower(subject)
	for i, c := range []byte(lower) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return "", false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	return lower, true
}
