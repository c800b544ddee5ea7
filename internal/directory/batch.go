package directory

import (
	"slices"
	"sync"
)

// Bounds of lookups.
const (
	// maxBatch is how many subjects a statement asks for at most.
	maxBatch = 500
	// maxWaiting is how many subjects can wait.
	maxWaiting = 4096
	// maxTries is how often a subject is asked for that is dropped each time
	// before the answer is there.
	maxTries = 3
)

// call is the lookup of one subject, which all wait for who ask for it.
type call struct {
	subject string
	asked   instant // when its query began, 0 while it waits
	tries   int
	sure    bool // a standby's answer is not enough, if there is a primary
	done    chan struct{}
	account *Account
	err     error
}

// batch joins the lookups that wait at a time into one statement. A few
// workers each take all that waits, so that a lone lookup waits for nothing.
// They end when there is nothing to do.
type batch struct {
	now     func() instant
	serve   func([]*call)
	workers int // at most

	mu      sync.Mutex
	working int
	waiting []*call
	open    map[string]*call // those that a further lookup can wait for
}

// join returns the lookup of a subject to wait for. One whose query began
// before a time is not good enough, nor is then a standby's answer.
func (b *batch) join(subject string, after instant) (*call, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch c := b.open[subject]; {
	case c == nil:
	case c.asked == 0:
		c.sure = c.sure || after != 0
		return c, nil
	case c.asked >= after && (c.sure || after == 0):
		return c, nil
	}
	if len(b.waiting) >= maxWaiting {
		return nil, &Error{Class: Busy, text: "too many lookups are under way"}
	}
	c := &call{subject: subject, sure: after != 0, done: make(chan struct{})}
	b.add(c)
	return c, nil
}

// refresh looks a subject up for nobody, unless others wait.
func (b *batch) refresh(subject string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[subject] == nil && len(b.waiting) < maxBatch {
		b.add(&call{subject: subject, done: make(chan struct{})})
	}
}

// again looks a subject up once more for those who wait. It returns false when
// that was done often enough.
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

// add lets a lookup wait for a worker. The caller holds b.mu.
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

// take returns all that waits, up to a bound, and ends the worker when nothing
// does.
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

// close keeps further lookups from waiting for these.
func (b *batch) close(calls []*call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range calls {
		if b.open[c.subject] == c {
			delete(b.open, c.subject)
		}
	}
}
