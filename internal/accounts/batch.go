package accounts

import (
	"slices"
	"sync"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// Bounds of lookups.
const (
	// maxBatch is how many subjects one lookup asks for.
	maxBatch = 500
	// maxWaiting is how many subjects can wait.
	maxWaiting = 4096
	// maxTries is how often a subject is looked up that is dropped from the
	// cache each time before the answer arrives.
	maxTries = 3
)

// errBusy is the answer while maxWaiting subjects wait.
var errBusy = &directories.Error{Class: directories.Busy, Text: "too many user lookups are waiting"}

// call is the lookup of one subject, shared by all who wait for it.
type call struct {
	batch    *batch
	subject  string
	asked    instant // when its lookup began, 0 while it waits
	tries    int
	original *call // that this one confirms; nil for none
	done     chan struct{}
	account  *Account
	err      error
}

// batch joins waiting lookups. Each of a few workers takes all that waits, so
// that a lone lookup starts at once. A worker ends when nothing waits.
type batch struct {
	now     func() instant
	serve   func([]*call)
	workers int // at most

	mu      sync.Mutex
	working int
	waiting []*call
	open    map[string]*call // calls that another request can wait for
}

func newBatch(workers int, now func() instant, serve func([]*call)) *batch {
	return &batch{now: now, serve: serve, workers: workers, open: make(map[string]*call)}
}

// join returns the lookup of a subject to wait for: one that began after a
// time.
func (b *batch) join(subject string, after instant) (*call, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.open[subject]; c != nil && (c.asked == 0 || c.asked >= after) {
		return c, nil
	}
	if len(b.waiting) >= maxWaiting {
		return nil, errBusy
	}
	return b.share(subject), nil
}

// refresh looks a subject up in the background, unless many wait.
func (b *batch) refresh(subject string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[subject] == nil && len(b.waiting) < maxBatch {
		b.share(subject)
	}
}

// again looks the subject up once more. It reports false after maxTries.
func (c *call) again() bool {
	b := c.batch
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.tries++; c.tries == maxTries {
		return false
	}
	c.asked = 0
	b.open[c.subject] = c
	b.add(c)
	return true
}

// confirm looks subjects up once more that calls have not found. It returns the
// calls that there is no room for.
func (b *batch) confirm(absent []*call) (rejected []*call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, c := range absent {
		if len(b.waiting) >= maxWaiting {
			return absent[i:]
		}
		b.add(&call{subject: c.subject, original: c})
	}
	return nil
}

// share adds the lookup of a subject that requests can wait for. The caller
// holds b.mu.
func (b *batch) share(subject string) *call {
	c := &call{batch: b, subject: subject, done: make(chan struct{})}
	b.open[subject] = c
	b.add(c)
	return c
}

// add lets a call wait for a worker. The caller holds b.mu.
func (b *batch) add(c *call) {
	b.waiting = append(b.waiting, c)
	if b.working < b.workers {
		b.working++
		go b.work()
	}
}

func (b *batch) work() {
	for calls := b.take(); len(calls) > 0; calls = b.take() {
		b.serve(calls)
	}
}

// take returns the calls that wait, up to a bound, and ends the worker if there
// are none.
func (b *batch) take() []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), maxBatch)
	calls := slices.Clone(b.waiting[:n])
	b.waiting = slices.Delete(b.waiting, 0, n)
	asked := b.now()
	for _, c := range calls {
		c.asked = asked
	}
	if n == 0 {
		b.working--
	}
	return calls
}

// close keeps further requests from waiting for those of the calls that are
// this batch's.
func (b *batch) close(calls []*call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range calls {
		if b.open[c.subject] == c {
			delete(b.open, c.subject)
		}
	}
}
