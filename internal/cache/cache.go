// Package cache holds bytes by key, within a bound of memory and without a
// pointer, so that a million entries are no work for the garbage collector.
package cache

import (
	"sync/atomic"
	"time"

	"github.com/coocood/freecache"
)

// Cache is a cache. It is safe for use by several goroutines, and has none of
// its own to end.
type Cache struct {
	entries atomic.Pointer[freecache.Cache]
	clock   clock
	bytes   int64
	// What was counted before it was cleared.
	hits, misses, evictions atomic.Int64
}

// clock is the time that a cache goes by: that of its last use.
type clock struct{ seconds atomic.Uint32 }

// Now is the time in seconds since 1970.
func (c *clock) Now() uint32 { return c.seconds.Load() }

func (c *clock) set(now time.Time) {
	if seconds := uint32(now.Unix()); c.seconds.Load() != seconds { //nolint:gosec // right until 2106
		c.seconds.Store(seconds)
	}
}

// New returns a cache of so many bytes, 512 KiB at least. They are taken from
// the system as they are used.
func New(bytes int) *Cache {
	c := &Cache{bytes: int64(bytes)}
	c.entries.Store(freecache.NewCacheCustomTimer(bytes, &c.clock))
	return c
}

// Close gives the memory back, though somebody may still hold the cache: what is
// kept from here on has the least room there is.
func (c *Cache) Close() { c.entries.Store(freecache.NewCacheCustomTimer(0, &c.clock)) }

// Get returns a copy of the value of a key: in into, if it fits there.
func (c *Cache) Get(key, into []byte, now time.Time) ([]byte, bool) {
	c.clock.set(now)
	value, err := c.entries.Load().GetWithBuf(key, into)
	return value, err == nil
}

// Set keeps a value for some time, at least a second, or until others that are
// used more need its room. One larger than a thousandth of the cache is not
// kept.
func (c *Cache) Set(key, value []byte, now time.Time, life time.Duration) {
	c.clock.set(now)
	life = min(max(life, time.Second), 365*24*time.Hour)
	if entries := c.entries.Load(); entries.Set(key, value, int(life/time.Second)+1) != nil {
		entries.Del(key) // what it replaces is no longer true
	}
}

// Delete removes a key.
func (c *Cache) Delete(key []byte) { c.entries.Load().Del(key) }

// Clear removes all keys, and returns how many there were.
func (c *Cache) Clear() int64 {
	s := c.Stats()
	c.entries.Load().Clear() // which begins to count anew
	c.hits.Store(s.Hits)
	c.misses.Store(s.Misses)
	c.evictions.Store(s.Evictions)
	return s.Entries
}

// Stats says how a cache is used.
type Stats struct {
	// Entries is how many there are.
	Entries int64 `json:"entries"`
	// Bytes is the memory that they can take.
	Bytes int64 `json:"bytes"`
	// Hits and Misses count what was found and what was not.
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
	// Evictions counts those that had to go before their time.
	Evictions int64 `json:"evictions"`
}

// Stats returns the figures of the cache since it was made.
func (c *Cache) Stats() Stats {
	return Stats{
		Entries:   c.entries.Load().EntryCount(),
		Bytes:     c.bytes,
		Hits:      c.hits.Load() + c.entries.Load().HitCount(),
		Misses:    c.misses.Load() + c.entries.Load().MissCount(),
		Evictions: c.evictions.Load() + c.entries.Load().EvacuateCount(),
	}
}
