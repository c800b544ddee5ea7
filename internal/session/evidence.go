package session

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
)

// maxGuesses is how many kinds of cookies evidence is kept of. Nobody of the others is
// proven to be gone.
const maxGuesses = 64

// Evidence is of which libraries users were found so far in one users table. It is safe
// for concurrent use.
type Evidence struct {
	found []atomic.Bool // by Token.format

	mu      sync.RWMutex
	guesses map[guess]struct{} // by which users were found
}

// guess is a kind of cookies in which users are known by a guess: an app may have
// several, of users in several tables.
type guess struct {
	format int
	cookie string // empty for a header
}

// NewEvidence returns that of a table in which no user of the reader's sessions was
// looked up yet.
func (rd *Reader) NewEvidence() *Evidence {
	return &Evidence{found: make([]atomic.Bool, len(rd.formats)+1), guesses: make(map[guess]struct{})}
}

// Found notes that the user of a token was found.
func (e *Evidence) Found(t *Token) {
	if t.Claims.Guessed && !e.noteGuess(t) {
		return
	}
	if found := &e.found[t.format]; !found.Load() { // no write that other processors wait for
		found.Store(true)
	}
}

// noteGuess notes that the user of a token was found by a guess. It reports false if
// that may be by chance: small numbers are ids in every table.
func (e *Evidence) noteGuess(t *Token) bool {
	if isNumber(t.Claims.Subject) {
		return false
	}
	of := t.guess()
	if e.knows(of) {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.guesses) >= maxGuesses {
		return false
	}
	of.cookie = strings.Clone(of.cookie) // not the whole header
	e.guesses[of] = struct{}{}
	return true
}

func (e *Evidence) knows(of guess) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	_, known := e.guesses[of]
	return known
}

// Proves reports whether it proves something that the user of a token is not found. If
// the subject is a guess, that is so once a user was found in a cookie of the same name,
// and never if it is a number. Else it proves nothing if only users of another library
// were found, who may have a table of their own.
func (e *Evidence) Proves(t *Token) bool {
	if t.Claims.Guessed {
		return !isNumber(t.Claims.Subject) && e.knows(t.guess())
	}
	if e.found[t.format].Load() {
		return true
	}
	for i := range e.found {
		if e.found[i].Load() {
			return false
		}
	}
	return true
}

// guess returns the kind of the cookie that holds the token: its name, without the
// number of a chunk.
func (t *Token) guess() guess {
	if len(t.Names) == 0 {
		return guess{t.format, ""}
	}
	return guess{t.format, formats.Whole(t.Names[0], ".")}
}

// isNumber reports whether a text has digits only.
func isNumber(text []byte) bool {
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
