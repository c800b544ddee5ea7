package revocation

import (
	"bytes"

	"github.com/seed-4adef13c/caddy-stale-session/internal/uuid"
)

// canonical returns the spelling of a subject that revocations have. Operators and
// tokens may spell a UUID or an email address in different ways.
func canonical(subject []byte) []byte {
	if id, ok := uuid.Canonical(subject); ok {
		return id
	}
	if bytes.IndexByte(subject, '@') >= 0 {
		return bytes.ToLower(subject)
	}
	return subject
}
