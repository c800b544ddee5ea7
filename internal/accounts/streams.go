package accounts

import (
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// streamed are the accounts with streams. Nobody asks for these, so they would not be
// among those in use; and they have a share of the watch of their own, so that those
// in use never wait for them.
type streamed struct {
	duty
	moved bool // they are to be listed
	todo  subjectList
}

// recheckStreams looks the accounts with streams up again that may have changed, for as
// long as it may, and once at least before the gate is to be read again. What has
// changed is told at once.
func (w *watch) recheckStreams(gate directories.Gate, until time.Time) error {
	s := &w.streams
	if w.e.config.Streams == nil {
		return nil
	}
	for s.earn(time.Now()); s.credit > 0; {
		if s.todo.count == 0 {
			if !s.moved {
				return nil
			}
			s.moved = false
			for subject := range w.e.config.Streams.Subjects(w.e.name) {
				s.todo.add(subject)
			}
		}
		if err := s.spend(func() error { return w.recheckSomeStreams(gate) }); err != nil {
			return err
		}
		if time.Now().After(until) {
			return nil
		}
	}
	return nil
}

// recheckSomeStreams looks the next accounts up. If that fails, all are looked up once
// the gate was read again.
func (w *watch) recheckSomeStreams(gate directories.Gate) error {
	s := &w.streams
	var queries []directories.Query
	var cached []bool
	now := w.e.now()
	var known Account
	for s.todo.count > 0 && len(queries) < maxRecheck {
		subject := s.todo.next()
		is := w.e.store.get(subject, now, &known)
		if !is || !w.holds(&known) {
			queries, cached = append(queries, directories.Query{Subject: subject}), append(cached, is)
		}
	}
	found, err := w.look(gate, queries)
	if err == nil && len(found) < len(queries) {
		s.todo, s.moved, s.credit = subjectList{}, true, min(s.credit, 0)
	}
	for i, f := range found {
		// What was known is compared as it is kept. An absence may have to be asked for.
		// A stream is known by what was listed, which may be spelled otherwise than f.key.
		if f.err == nil && (!cached[i] || !f.account.Exists) {
			w.e.tell(queries[i].Subject)
		}
	}
	return err
}
