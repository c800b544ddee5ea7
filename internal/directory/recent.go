package directory

import "sync"

// recentFor is how long a window of recent lasts.
const recentFor = instant(10e9)

// recent lists the subjects that were used in this window of time and in the
// one before. Each account notes the window that it was listed in, so that it
// is listed once in each.
type recent struct {
	limit int

	mu                sync.Mutex
	window            uint32
	current, previous []string
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
	if len(r.current) >= r.limit {
		return false
	}
	r.current = append(r.current, string(subject))
	return true
}

// list returns the subjects.
func (r *recent) list(window uint32) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(window)
	return append(append(make([]string, 0, len(r.previous)+len(r.current)), r.previous...), r.current...)
}

// turn goes on to a window.
func (r *recent) turn(window uint32) {
	switch {
	case window <= r.window:
	case window == r.window+1:
		r.window, r.previous, r.current = window, r.current, nil
	default:
		r.window, r.previous, r.current = window, nil, nil
	}
}
