package accounts

import (
	"encoding/binary"
	"slices"
	"sync"
)

// recentFor is how long a window of recent lasts.
const recentFor = instant(10e9)

// recent lists the subjects that were used in this window of time and in the
// one before. Each account notes the window that it was listed in, so that it
// is listed once in each.
type recent struct {
	limit int

	mu                sync.Mutex
	window            uint32
	current, previous subjectList
}

// windowOf returns the window of a time. The first is 1.
func windowOf(now instant) uint32 {
	return uint32(now/recentFor) + 1 //nolint:gosec // right for a thousand years
}

// add lists a subject. It returns false when there are too many.
func (r *recent) add(window uint32, subject []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(window)
	if r.current.count >= r.limit {
		return false
	}
	r.current.add(subject)
	return true
}

// list returns the subjects, those of this window first.
func (r *recent) list(window uint32) subjectList {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(window)
	return subjectList{parts: slices.Concat(r.current.parts, r.previous.parts), count: r.current.count + r.previous.count}
}

// clear drops all subjects.
func (r *recent) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.previous = subjectList{}, subjectList{}
}

// turn goes on to a window.
func (r *recent) turn(window uint32) {
	switch {
	case window <= r.window:
	case window == r.window+1:
		r.window, r.previous, r.current = window, r.current, subjectList{}
	default:
		r.window, r.previous, r.current = window, subjectList{}, subjectList{}
	}
}

// partBytes is the room of a part of a list.
const partBytes = 16 << 10

// subjectList is a list of subjects without a pointer to each: parts of memory
// that hold one after the other, each after its length. A part is only ever
// added to, so a copy of the parts is a list of its own.
type subjectList struct {
	parts [][]byte
	count int
}

// add adds a copy of a subject.
func (s *subjectList) add(subject []byte) {
	last := len(s.parts) - 1
	if need := binary.MaxVarintLen64 + len(subject); last < 0 || len(s.parts[last])+need > cap(s.parts[last]) {
		s.parts = append(s.parts, make([]byte, 0, max(partBytes, need)))
		last++
	}
	s.parts[last] = append(binary.AppendUvarint(s.parts[last], uint64(len(subject))), subject...)
	s.count++
}

// next takes the first subject off the list, nil when it is empty.
func (s *subjectList) next() []byte {
	for len(s.parts) > 0 && len(s.parts[0]) == 0 {
		s.parts = s.parts[1:]
	}
	if len(s.parts) == 0 {
		return nil
	}
	part := s.parts[0]
	length, start := binary.Uvarint(part)
	end := start + int(length) //nolint:gosec // as in add
	s.parts[0] = part[end:]
	s.count--
	return part[start:end:end]
}
