// Package revocation keeps the sessions that an operator or an identity provider
// has revoked, and shares them between the nodes of a fleet.
package revocation

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// DefaultLife is how long a revocation is kept: browsers keep no cookie
	// longer (RFC 6265bis, section 5.5).
	DefaultLife = 400 * 24 * time.Hour
	// MessageLife is how long a message is kept, so that it can be delivered again for as
	// long.
	MessageLife = 7 * 24 * time.Hour
	// MaxID is the longest subject, or ID of a session, token or message, in bytes.
	MaxID = 1024
)

// Revocation ends the sessions of a subject that were issued up to a time, or the
// session or token with an ID; or it records a message, so that nothing is revoked for
// it again. Exactly one of Subject, Session, Token and Message is set.
type Revocation struct {
	// Subject is the user id.
	Subject string `json:"subject,omitempty"`
	// Session is the ID of a session at an identity provider, the claim `sid`.
	Session string `json:"session,omitempty"`
	// Token is the ID of a token, the claim `jti`.
	Token string `json:"token,omitempty"`
	// Message is the ID of a message because of which sessions were revoked.
	Message string `json:"message,omitempty"`
	// Blocked reports whether all sessions of the subject are refused until that is
	// restored, those too that are issued later.
	Blocked bool `json:"blocked,omitempty"`
	// By is who has Blocked the subject: nobody else lifts that, but the operator.
	By string `json:"by,omitempty"`
	// At is when it was revoked. Unless Blocked, sessions of the subject that were
	// issued later stay valid: people can sign in again.
	At time.Time `json:"at"`
	// Restored reports whether the revocation was undone.
	Restored bool `json:"restored,omitempty"`
}

// The kinds of IDs, as stores write them.
const (
	kindSubject = 's'
	kindSession = 'i'
	kindToken   = 't'
	kindBlock   = 'b' // by whom, escaped, and of which subject, with a space between them
	kindMessage = 'm'
)

// Key returns the kind and the ID, as stores write them.
func (r Revocation) Key() string {
	switch {
	case r.Session != "":
		return string(kindSession) + r.Session
	case r.Token != "":
		return string(kindToken) + r.Token
	case r.Message != "":
		return string(kindMessage) + r.Message
	case r.Blocked:
		return string(kindBlock) + url.QueryEscape(r.By) + " " + r.Subject
	}
	return string(kindSubject) + r.Subject
}

// Parse returns the revocation with a Key, made or undone at a time. It reports false
// if the key is invalid.
func Parse(key string, at time.Time, restored bool) (Revocation, bool) {
	r := Revocation{At: at, Restored: restored}
	if len(key) < 2 || len(key) > 2*MaxID+2 {
		return r, false
	}
	switch id := key[1:]; key[0] {
	case kindSubject:
		r.Subject = string(canonical([]byte(id)))
	case kindSession:
		r.Session = id
	case kindToken:
		r.Token = id
	case kindBlock:
		by, subject, _ := strings.Cut(id, " ")
		var err error
		if r.By, err = url.QueryUnescape(by); err != nil {
			return r, false
		}
		r.Subject, r.Blocked = string(canonical([]byte(subject))), true
	case kindMessage:
		r.Message = id
	default:
		return r, false
	}
	return r, r.Validate() == nil
}

// Validate returns an error unless exactly one ID is set, and is valid.
func (r Revocation) Validate() error {
	given := 0
	for _, id := range []string{r.Subject, r.Session, r.Token, r.Message} {
		if id != "" {
			given++
		}
		if len(id) > MaxID || strings.ContainsRune(id, 0) {
			return fmt.Errorf("an ID must have 1 to %d bytes and no NUL byte", MaxID)
		}
	}
	if len(url.QueryEscape(r.By)) > MaxID {
		return errors.New("the name of who blocks a user is too long")
	}
	if given != 1 || r.Blocked && r.Subject == "" {
		return errors.New("a revocation needs exactly one of subject, session and token")
	}
	return nil
}

// maxAhead is how far in the future a revocation may be dated: with a wrong clock,
// nobody could sign in any more.
const maxAhead = 24 * time.Hour

// counts reports whether a revocation is neither older than its life nor too far in
// the future. The life is of a usual one.
func (r Revocation) counts(now time.Time, life time.Duration) bool {
	life = r.Life(life)
	return (life == Forever || r.At.After(now.Add(-life))) && r.At.Before(now.Add(maxAhead))
}

// Forever is the life of what only an undo ends.
const Forever = time.Duration(-1)

// Life returns how long the revocation is kept, where life is how long a usual one is.
func (r Revocation) Life(life time.Duration) time.Duration {
	switch {
	case r.Blocked && !r.Restored:
		return Forever
	case r.Blocked: // sessions do not outlive life, but the event that was undone may come late
		return DefaultLife
	case r.Message != "":
		return MessageLife
	}
	return life
}

// state is what is known of a key.
type state struct {
	at       time.Time
	restored bool
}

func (r Revocation) state() state { return state{r.At, r.Restored} }

// Supersedes reports whether r is a later state than other, which has the same Key.
func (r Revocation) Supersedes(other Revocation) bool { return r.state().after(other.state()) }

// after reports whether s supersedes other. Of the same time, the revocation
// supersedes its undo.
func (s state) after(other state) bool {
	if s.at.Equal(other.at) {
		return !s.restored && other.restored
	}
	return s.at.After(other.at)
}

// latestFirst sorts revocations.
func latestFirst(all []Revocation) []Revocation {
	slices.SortFunc(all, func(a, b Revocation) int {
		return cmp.Or(b.At.Compare(a.At), strings.Compare(a.Key(), b.Key()))
	})
	return all
}
