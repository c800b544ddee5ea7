package revocation

import "time"

const (
	// MaxEntries is the largest number of entries.
	MaxEntries = 1_000_000
	// maxMessages is the largest number of messages among them. What more are
	// delivered again revokes again.
	maxMessages = 100_000
)

// entries holds the latest state of each revocation. Subjects are separate, so
// that a request looks its subject up without building a key.
type entries struct {
	life     time.Duration
	subjects map[string]state            // by subject
	ids      map[string]state            // sessions and tokens, by key
	blocks   map[string]map[string]state // by subject, and by whom
	messages map[string]state            // by key
}

func newEntries(life time.Duration) entries {
	return entries{life, make(map[string]state), make(map[string]state), make(map[string]map[string]state), make(map[string]state)}
}

// place returns the map and the key of a revocation. The map is nil for the first block of
// a subject.
func (e *entries) place(r Revocation) (in map[string]state, key string) {
	switch {
	case r.Blocked:
		return e.blocks[r.Subject], r.By
	case r.Subject != "":
		return e.subjects, r.Subject
	case r.Message != "":
		return e.messages, r.Key()
	}
	return e.ids, r.Key()
}

// get returns the state of a revocation.
func (e *entries) get(r Revocation) (state, bool) {
	in, key := e.place(r)
	s, found := in[key]
	return s, found
}

// set sets the state of a revocation, unless a later one is known, and reports whether
// that is news. It reports ok false if there are too many.
func (e *entries) set(r Revocation) (news, ok bool) {
	in, key := e.place(r)
	s := state{r.At.Truncate(precision), r.Restored}
	known, found := in[key]
	if found && !s.after(known) {
		return false, true
	}
	if !found && e.full(r) {
		e.sweep()
		if e.full(r) {
			return false, r.Message != ""
		}
		in, key = e.place(r)
	}
	if in == nil {
		in = make(map[string]state)
		e.blocks[r.Subject] = in
	}
	in[key] = s
	return !s.restored && r.Message == "", true
}

// full reports whether there is no room for another revocation like r.
func (e *entries) full(r Revocation) bool {
	if r.Message != "" {
		return len(e.messages) >= maxMessages
	}
	return len(e.subjects)+len(e.ids)+len(e.blocks) >= MaxEntries
}

// sweep removes what is older than it is kept.
func (e *entries) sweep() {
	now := time.Now()
	for r := range e.each {
		if !r.counts(now, e.life) && r.At.Before(now) {
			in, key := e.place(r)
			if delete(in, key); r.Blocked && len(in) == 0 {
				delete(e.blocks, r.Subject)
			}
		}
	}
}

// list returns the revocations, and with restored also those that were undone.
func (e *entries) list(restored bool) []Revocation {
	all := make([]Revocation, 0, len(e.subjects)+len(e.ids)+len(e.blocks)+len(e.messages))
	for r := range e.each {
		if restored || !r.Restored {
			all = append(all, r)
		}
	}
	return all
}

// each yields all entries.
func (e *entries) each(yield func(Revocation) bool) {
	for subject, s := range e.subjects {
		if !yield(Revocation{Subject: subject, At: s.at, Restored: s.restored}) {
			return
		}
	}
	for subject, all := range e.blocks {
		for by, s := range all {
			if !yield(Revocation{Subject: subject, Blocked: true, By: by, At: s.at, Restored: s.restored}) {
				return
			}
		}
	}
	for _, in := range []map[string]state{e.ids, e.messages} {
		for key, s := range in {
			if r, ok := Parse(key, s.at, s.restored); ok && !yield(r) {
				return
			}
		}
	}
}
