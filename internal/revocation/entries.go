package revocation

import "time"

// MaxEntries is the largest number of revocations in a List.
const MaxEntries = 1_000_000

// entries holds the latest state of each revocation. Subjects are separate, so
// that a request looks its subject up without building a key.
type entries struct {
	life     time.Duration
	subjects map[string]state // by subject
	ids      map[string]state // sessions and tokens, by key
}

func newEntries(life time.Duration) entries {
	return entries{life, make(map[string]state), make(map[string]state)}
}

// place returns the map and the key of a revocation.
func (e *entries) place(r Revocation) (in map[string]state, key string) {
	if r.Subject != "" {
		return e.subjects, r.Subject
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
	if !found && len(e.subjects)+len(e.ids) >= MaxEntries {
		e.sweep()
		if len(e.subjects)+len(e.ids) >= MaxEntries {
			return false, false
		}
	}
	in[key] = s
	return !s.restored, true
}

// sweep removes what is older than any session.
func (e *entries) sweep() {
	since := time.Now().Add(-e.life)
	for _, in := range []map[string]state{e.subjects, e.ids} {
		for key, s := range in {
			if s.at.Before(since) {
				delete(in, key)
			}
		}
	}
}

// list returns the revocations, and with restored also those that were undone.
func (e *entries) list(restored bool) []Revocation {
	all := make([]Revocation, 0, len(e.subjects)+len(e.ids))
	for subject, s := range e.subjects {
		if restored || !s.restored {
			all = append(all, Revocation{Subject: subject, At: s.at, Restored: s.restored})
		}
	}
	for key, s := range e.ids {
		if r, ok := Parse(key, s.at, s.restored); ok && (restored || !s.restored) {
			all = append(all, r)
		}
	}
	return all
}
