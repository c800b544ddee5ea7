package accounts

import (
	"slices"
	"sync"
	"time"

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
	subject   string
	asked     instant // when its lookup began, 0 while it waits
	tries     int
	confirmed bool  // a replica's answer is not enough
	original  *call // that this one confirms; nil for none
	done      chan struct{}
	account   *Account
	err       error
}

// query is what the call asks the directory for.
func (c *call) query(now time.Time) directories.Query {
	q := directories.Query{Subject: []byte(c.subject)}
	if c.confirmed {
		q.Since = now
	}
	return q
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
// time, and if it is to be confirmed, one that no replica may answer.
func (b *batch) join(subject string, after instant, confirmed bool) (*call, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch c := b.open[subject]; {
	case c == nil:
	case c.asked == 0:
		c.confirmed = c.confirmed || confirmed
		return c, nil
	case c.asked >= after && (c.confirmed || !confirmed):
		return c, nil
	}
	if len(b.waiting) >= maxWaiting {
		return nil, errBusy
	}
	c := &call{subject: subject, confirmed: confirmed, done: make(chan struct{})}
	b.add(c)
	return c, nil
}

// refresh looks a subject up in the background, unless many wait.
func (b *batch) refresh(subject string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[subject] == nil && len(b.waiting) < maxBatch {
		b.add(&call{subject: subject, done: make(chan struct{})})
	}
}

// again looks a subject up once more. It reports false after maxTries.
func (b *batch) again(c *call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.tries++; c.tries == maxTries {
		return false
	}
	c.asked = 0
	b.add(c)
	return true
}

// confirm looks subjects up once more that calls of another batch have not
// found. It returns the calls that there is no room for.
func (b *batch) confirm(absent []*call) (rejected []*call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, c := range absent {
		if len(b.waiting) >= maxWaiting {
			return absent[i:]
		}
		b.add(&call{subject: c.subject, confirmed: true, original: c})
	}
	return nil
}

// add lets a call wait for a worker. The caller holds b.mu.
func (b *batch) add(c *call) {
	b.waiting = append(b.waiting, c)
	b.open[c.subject] = c
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

// close keeps further requests from waiting for these calls.
func (b *batch) close(calls []*call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range calls {
		if b.open[c.subject] == c {
			delete(b.open, c.subject)
		}
	}
}
