package session

import "sync/atomic"

// Evidence is of which libraries users were found so far in one users table. It is safe
// for concurrent use.
type Evidence struct {
	found []atomic.Bool // by Token.format
}

// NewEvidence returns that of a table in which no user of the reader's sessions was
// looked up yet.
func (rd *Reader) NewEvidence() *Evidence { return &Evidence{make([]atomic.Bool, len(rd.formats)+1)} }

// Found notes that the user of a token was found.
func (e *Evidence) Found(t *Token) {
	if found := &e.found[t.format]; !found.Load() { // no write that other processors wait for
		found.Store(true)
	}
}

// Proves reports whether it proves something that the user of a token is not found.
// Before a user of the same library was found, it proves nothing if the subject is a
// guess; or if users of another library were, who may have a table of their own.
func (e *Evidence) Proves(t *Token) bool {
	if e.found[t.format].Load() {
		return true
	}
	if t.Claims.Guessed {
		return false
	}
	for i := range e.found {
		if e.found[i].Load() {
			return false
		}
	}
	return true
}
