// Package cache caches bytes by key in bounded memory. Entries are stored without
// pointers, so a million of them are no work for the garbage collector.
package cache

import (
	"sync/atomic"
	"time"

	"github.com/coocood/freecache"
)

// Cache is a cache. It is safe for concurrent use, and starts no goroutine.
type Cache struct {
	entries atomic.Pointer[freecache.Cache] // nil once closed
	clock   clock
	bytes   int64
	// Counted before the cache was last cleared.
	hits, misses, evictions atomic.Int64
}

// clock is the time of the last use of a cache, which decides what has expired.
type clock struct{ seconds atomic.Uint32 }

// Now returns the time in seconds since 1970.
func (c *clock) Now() uint32 { return c.seconds.Load() }

func (c *clock) set(now time.Time) {
	if seconds := uint32(now.Unix()); c.seconds.Load() != seconds { //nolint:gosec // right until 2106
		c.seconds.Store(seconds)
	}
}

// New returns a cache of a size in bytes, at least 512 KiB. The system allocates
// the memory as it is used.
func New(bytes int) *Cache {
	c := &Cache{bytes: int64(bytes)}
	c.entries.Store(freecache.NewCacheCustomTimer(bytes, &c.clock))
	return c
}

// Close frees the memory, also while there are references to the cache. A closed
// cache keeps nothing.
func (c *Cache) Close() { c.entries.Store(nil) }

// Get returns a copy of the value of a key, in the memory of into if it fits, and
// whether there is one.
func (c *Cache) Get(key, into []byte, now time.Time) ([]byte, bool) {
	entries := c.entries.Load()
	if entries == nil {
		return nil, false
	}
	c.clock.set(now)
	value, err := entries.GetWithBuf(key, into)
	return value, err == nil
}

// Set stores a value for a lifetime of at least a second. It may be evicted
// earlier, for values that are used more. A value larger than a thousandth of the
// cache is not stored. It reports whether it was.
func (c *Cache) Set(key, value []byte, now time.Time, life time.Duration) bool {
	entries := c.entries.Load()
	if entries == nil {
		return false
	}
	c.clock.set(now)
	life = min(max(life, time.Second), 365*24*time.Hour)
	if entries.Set(key, value, int(life/time.Second)+1) != nil {
		entries.Del(key) // what it replaces is no longer true
		return false
	}
	return true
}

// Delete deletes an entry.
func (c *Cache) Delete(key []byte) {
	if entries := c.entries.Load(); entries != nil {
		entries.Del(key)
	}
}

// Clear deletes all entries, and returns how many there were.
func (c *Cache) Clear() int64 {
	s := c.Stats()
	if entries := c.entries.Load(); entries != nil {
		entries.Clear() // resets its counters
	}
	c.hits.Store(s.Hits)
	c.misses.Store(s.Misses)
	c.evictions.Store(s.Evictions)
	return s.Entries
}

// Stats are the statistics of a cache.
type Stats struct {
	// Entries is the number of entries.
	Entries int64 `json:"entries"`
	// Bytes is the size of the cache.
	Bytes int64 `json:"bytes"`
	// Hits and Misses count the calls of Get that found an entry, and that did not.
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
	// Evictions counts the entries that were deleted before they expired.
	Evictions int64 `json:"evictions"`
}

// Plus returns the sums of the statistics of two caches.
func (s Stats) Plus(other Stats) Stats {
	return Stats{s.Entries + other.Entries, s.Bytes + other.Bytes, s.Hits + other.Hits, s.Misses + other.Misses, s.Evictions + other.Evictions}
}

// Stats returns the statistics of the cache since it was created.
func (c *Cache) Stats() Stats {
	s := Stats{Bytes: c.bytes, Hits: c.hits.Load(), Misses: c.misses.Load(), Evictions: c.evictions.Load()}
	if entries := c.entries.Load(); entries != nil {
		s.Entries = entries.EntryCount()
		s.Hits += entries.HitCount()
		s.Misses += entries.MissCount()
		s.Evictions += entries.EvacuateCount()
	}
	return s
}
