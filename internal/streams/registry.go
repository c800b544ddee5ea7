package streams

import (
	"bytes"
	"hash/maphash"
	"iter"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// bucketCount keeps requests of different users from waiting for each other.
const bucketCount = 1 << 12

// Registry knows the requests that are under way, by the accounts and rows of their
// sessions.
type Registry struct {
	seed    maphash.Seed
	buckets [bucketCount]bucket
	queue   queue
	sweeps  atomic.Bool

	mu     sync.Mutex
	enders map[string]int // handlers that end streams, by directory
}

// bucket holds the entries of the accounts that have a hash in common.
type bucket struct {
	mu    sync.Mutex
	first *entry
}

// Name is what a stream is known by: a subject of a directory, whose account may end it.
type Name struct {
	Directory string
	// Subject is as the directory spells it.
	Subject []byte
}

func (n Name) equals(other Name) bool {
	return n.Directory == other.Directory && bytes.Equal(n.Subject, other.Subject)
}

// entry is a stream under one of its names.
type entry struct {
	Name
	stream     *Stream
	bucket     *bucket
	prev, next *entry
}

// Open are the streams of this process: they outlive a configuration.
var Open = NewRegistry()

// NewRegistry returns a registry without streams.
func NewRegistry() *Registry {
	return &Registry{seed: maphash.MakeSeed(), enders: make(map[string]int), queue: queue{ending: make(chan struct{}, maxEnding), pace: rate.NewLimiter(endRate, endBurst)}}
}

// End tells that a handler ends the streams of a directory's users, until it calls
// release.
func (g *Registry) End(directory string) (release func()) {
	add := func(n int) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.enders[directory] += n; g.enders[directory] == 0 {
			delete(g.enders, directory)
		}
	}
	add(1)
	return func() { add(-1) }
}

// Ends reports whether any handler ends the streams of a directory's users.
func (g *Registry) Ends(directory string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.enders[directory] > 0
}

func (g *Registry) bucket(subject []byte) *bucket {
	return &g.buckets[maphash.Bytes(g.seed, subject)%bucketCount]
}

func (g *Registry) add(e *entry) {
	e.bucket = g.bucket(e.Subject)
	b := e.bucket
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.next = b.first; e.next != nil {
		e.next.prev = e
	}
	b.first = e
}

func (e *entry) remove() {
	b := e.bucket
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.next != nil {
		e.next.prev = e.prev
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		b.first = e.next
	}
	e.prev, e.next = nil, nil
}

// Changed has the streams of an account judged again, which may have changed; with a
// nil subject those of all accounts of a directory. It does not wait.
func (g *Registry) Changed(directory string, subject []byte) {
	if subject == nil {
		g.hint(func(e *entry) bool { return e.Directory == directory })
		return
	}
	g.bucket(subject).hint(func(e *entry) bool { return e.equals(Name{directory, subject}) })
}

// Subjects yields the accounts of a directory that have streams, some of them twice. No
// stream enters or leaves its bucket meanwhile.
func (g *Registry) Subjects(directory string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range g.buckets {
			if !g.buckets[i].subjects(directory, yield) {
				return
			}
		}
	}
}

// subjects yields those of its streams, and reports whether that is to go on.
func (b *bucket) subjects(directory string, yield func([]byte) bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for e := b.first; e != nil; e = e.next {
		if e.Directory == directory && (e.next == nil || !e.next.equals(e.Name)) && !yield(e.Subject) {
			return false
		}
	}
	return true
}

// Revoked has the streams judged again that a list of revocations concerns, which has
// grown. It must not wait.
func (g *Registry) Revoked(list *revocation.List) {
	g.hint(func(e *entry) bool {
		s := e.stream
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.state == judging || s.state == open && s.session.Revoked(list)
	})
}

// Count returns how many requests with a session are under way in each directory: that
// of their first name.
func (g *Registry) Count() map[string]int {
	counts := make(map[string]int)
	for i := range g.buckets {
		b := &g.buckets[i]
		b.mu.Lock()
		for e := b.first; e != nil; e = e.next {
			if e == &e.stream.entry { // the others are of the same stream
				counts[e.Directory]++
			}
		}
		b.mu.Unlock()
	}
	return counts
}

func (g *Registry) hint(concerned func(*entry) bool) {
	for i := range g.buckets {
		g.buckets[i].hint(concerned)
	}
}

// hint has streams judged again. The lock is not held meanwhile: a stream that ends
// waits for it.
func (b *bucket) hint(concerned func(*entry) bool) {
	var room [8]*Stream
	all := room[:0]
	b.mu.Lock()
	for e := b.first; e != nil; e = e.next {
		if concerned(e) {
			all = append(all, e.stream)
		}
	}
	b.mu.Unlock()
	for _, s := range all {
		s.hint(false)
	}
}
