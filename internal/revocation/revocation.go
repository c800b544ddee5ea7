// Package revocation keeps which sessions were ended by hand, or by an identity
// provider, and shares that with the other nodes of a fleet.
package revocation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// DefaultLife is how long a revocation is kept: browsers keep no cookie
	// longer (RFC 6265bis, section 5.5).
	DefaultLife = 400 * 24 * time.Hour
	// maxEntries bounds a list.
	maxEntries = 1_000_000
	// MaxID bounds a subject, and the id of a session or a token, in bytes.
	MaxID = 1024
)

// Revocation ends sessions: those of a subject that were issued up to a time,
// or the one with an id. One of Subject, Session and Token is set.
type Revocation struct {
	// Subject is the user id.
	Subject string `json:"subject,omitempty"`
	// Session is the id of a session at an identity provider, the claim sid.
	Session string `json:"session,omitempty"`
	// Token is the id of a token, the claim jti.
	Token string `json:"token,omitempty"`
	// At is when they were ended. A session of the subject that was issued
	// later is not concerned: people can sign in again.
	At time.Time `json:"at"`
	// Restored tells that this was taken back.
	Restored bool `json:"restored,omitempty"`
}

// kinds are the kinds of ids, and the letters that stand for them in stores.
const (
	ofSubject = 's'
	ofSession = 'i'
	ofToken   = 't'
)

// key is the kind and the id.
func (r Revocation) key() string {
	switch {
	case r.Session != "":
		return string(ofSession) + r.Session
	case r.Token != "":
		return string(ofToken) + r.Token
	}
	return string(ofSubject) + r.Subject
}

// ofKey is the revocation with a key.
func ofKey(key string, at time.Time, restored bool) (Revocation, bool) {
	r := Revocation{At: at, Restored: restored}
	if len(key) < 2 || len(key) > MaxID+1 {
		return r, false
	}
	switch id := key[1:]; key[0] {
	case ofSubject:
		r.Subject = id
	case ofSession:
		r.Session = id
	case ofToken:
		r.Token = id
	default:
		return r, false
	}
	return r, true
}

// Check tells whether the ids are such as can be.
func (r Revocation) Check() error {
	given := 0
	for _, id := range []string{r.Subject, r.Session, r.Token} {
		if id != "" {
			given++
		}
		if len(id) > MaxID || strings.ContainsRune(id, 0) {
			return fmt.Errorf("an id has 1 to %d bytes, and no zero byte", MaxID)
		}
	}
	if given != 1 {
		return errors.New("a revocation is of one subject, session or token")
	}
	return nil
}

// state is what is known of a key.
type state struct {
	at       time.Time
	restored bool
}

// after tells whether this has come later than another.
func (s state) after(other state) bool {
	if s.at.Equal(other.at) {
		return !s.restored && other.restored
	}
	return s.at.After(other.at)
}

// sorted sorts revocations, the latest first.
func sorted(all []Revocation) []Revocation {
	slices.SortFunc(all, func(a, b Revocation) int {
		return cmp.Or(b.At.Compare(a.At), strings.Compare(a.key(), b.key()))
	})
	return all
}
