package session

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
)

// maxGuesses is how many kinds of cookies evidence is kept of. Nobody of the others is
// proven to be gone.
const maxGuesses = 64

// Findings are of which libraries users were found so far in one users table. They outlive
// a reader: when its keys are replaced, what was found still counts. They are safe for
// concurrent use.
type Findings struct {
	mu        sync.RWMutex
	libraries map[string]*library
	guesses   map[guess]struct{} // by which users were found
}

// library is what writes sessions.
type library struct {
	name  string
	found atomic.Bool
}

// guess is a kind of cookies in which users are known by a guess: an app may have
// several, of users in several tables.
type guess struct {
	library string
	cookie  string // empty for a header
}

// NewFindings returns those of a table in which no user was looked up yet.
func NewFindings() *Findings {
	return &Findings{libraries: make(map[string]*library), guesses: make(map[guess]struct{})}
}

// Evidence is what findings prove of the sessions of a reader.
type Evidence struct {
	*Findings

	of []*library // by Token.format
}

// Evidence returns what findings prove of the reader's sessions.
func (rd *Reader) Evidence(findings *Findings) *Evidence {
	e := &Evidence{Findings: findings, of: []*library{findings.library("")}}
	count := make(map[string]int)
	for _, f := range rd.formats {
		kind := fmt.Sprintf("%T", f.Format)
		e.of = append(e.of, findings.library(fmt.Sprint(kind, count[kind])))
		count[kind]++
	}
	return e
}

// library returns the one of a name.
func (f *Findings) library(name string) *library {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.libraries[name] == nil {
		f.libraries[name] = &library{name: name}
	}
	return f.libraries[name]
}

// Succeed takes over what was found in the same table.
func (f *Findings) Succeed(former *Findings) {
	if f == former {
		return
	}
	for _, name := range former.found() {
		f.library(name).found.Store(true)
	}
	for _, of := range former.guessed() {
		f.add(of)
	}
}

// found returns the names of the libraries of which users were found.
func (f *Findings) found() (names []string) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for name, of := range f.libraries {
		if of.found.Load() {
			names = append(names, name)
		}
	}
	return names
}

// guessed returns the guesses by which users were found.
func (f *Findings) guessed() []guess {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.Collect(maps.Keys(f.guesses))
}

// Found notes that the user of a token was found.
func (e *Evidence) Found(t *Token) {
	if t.Claims.Guessed && !e.noteGuess(t) {
		return
	}
	if of := e.of[t.format]; !of.found.Load() { // no write that other processors wait for
		of.found.Store(true)
	}
}

// noteGuess notes that the user of a token was found by a guess. It reports false if
// that may be by chance: small numbers are ids in every table.
func (e *Evidence) noteGuess(t *Token) bool {
	if isNumber(t.Claims.Subject) {
		return false
	}
	of := e.guess(t)
	return e.knows(of) || e.add(of)
}

func (f *Findings) knows(of guess) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	_, known := f.guesses[of]
	return known
}

// add adds a guess. It reports false if there are too many.
func (f *Findings) add(of guess) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.guesses) >= maxGuesses {
		return false
	}
	of.cookie = strings.Clone(of.cookie) // not the whole header
	f.guesses[of] = struct{}{}
	return true
}

// Proves reports whether it proves something that the user of a token is not found. If
// the subject is a guess, that is so once a user was found in a cookie of the same name,
// and never if it is a number. Else it proves nothing if only users of another library
// were found, who may have a table of their own.
func (e *Evidence) Proves(t *Token) bool {
	if t.Claims.Guessed {
		return !isNumber(t.Claims.Subject) && e.knows(e.guess(t))
	}
	return e.of[t.format].found.Load() || len(e.found()) == 0
}

// guess returns the kind of the cookie that holds the token: its name, without the
// number of a chunk.
func (e *Evidence) guess(t *Token) guess {
	library := e.of[t.format].name
	if len(t.Names) == 0 {
		return guess{library, ""}
	}
	return guess{library, formats.Whole(t.Names[0], ".")}
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
