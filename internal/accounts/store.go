package accounts

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
)

// accountBytes is the room of an account in the cache, with a subject as long
// as a UUID, a time of creation, and without columns to match. Some of it is for
// what does not spread evenly.
const accountBytes = 92

// store holds the accounts that are known, by subject.
//
// A lookup that began before an account was dropped must not bring it back:
// it takes the generation of its subject before it asks, and keeps nothing
// when that is another one afterwards.
type store struct {
	cache   *cache.Cache
	opened  time.Time // see record
	life    time.Duration
	seed    maphash.Seed
	stripes [64]stripe
	// floor is when everything was dropped.
	floor   atomic.Int64
	periods periods // of the watch
}

// stripe is what subjects share that have a hash in common.
type stripe struct {
	mu         sync.Mutex
	generation uint64
}

func newStore(size int, opened time.Time, life time.Duration) *store {
	return &store{cache: cache.New(size * accountBytes), opened: opened, life: life, seed: maphash.MakeSeed()}
}

func (c *store) stripe(key []byte) *stripe {
	return &c.stripes[maphash.Bytes(c.seed, key)%uint64(len(c.stripes))]
}

// get reads what is known of a subject.
func (c *store) get(key []byte, now time.Time, a *Account) bool {
	var found bool
	if a.encoded, found = c.cache.Get(key, a.scratch[:], now); !found {
		return false
	}
	a.decode(c.opened)
	return a.asked == never || int64(a.asked) >= c.floor.Load()
}

// generation is to be taken before a lookup begins.
func (c *store) generation(key []byte) uint64 {
	s := c.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// keep keeps what a lookup has found. It returns false when the account was
// dropped since the generation was taken. What a later lookup has found stays. It also
// returns whether that is news: streams were judged by another account, or, if none was
// known here, by what another engine knew.
func (c *store) keep(key []byte, generation uint64, now time.Time, a *Account) (kept, news bool) {
	s := c.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation != generation {
		return false, false
	}
	var known Account
	switch {
	case !c.get(key, now, &known):
		return true, c.set(key, now, a) // what is too large would be told of again and again
	case known.asked > a.asked:
		return true, false
	}
	a.window = known.window
	news = known.asked != never && !known.equals(a)
	a.follow(&known, c.periods.until(&known))
	c.set(key, now, a)
	return true, news
}

// use notes in which window an account was used.
func (c *store) use(key []byte, window uint32, now time.Time) {
	c.amend(key, now, func(a *Account) { a.window = window })
}

// doubt notes that an account is doubted, unless a later lookup than at a time has found it.
func (c *store) doubt(key []byte, at instant, now time.Time) {
	c.amend(key, now, func(a *Account) { a.doubted = a.doubted || a.asked <= at })
}

// amend changes what is noted of an account, if it is known.
func (c *store) amend(key []byte, now time.Time, change func(*Account)) {
	s := c.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	var known Account
	if c.get(key, now, &known) {
		change(&known)
		c.set(key, now, &known)
	}
}

// set reports whether an account could be kept.
func (c *store) set(key []byte, now time.Time, a *Account) bool {
	var room [128]byte
	return c.cache.Set(key, a.appendTo(room[:0], c.opened), now, c.life)
}

// drop forgets an account, but for when it was created: another one may follow.
func (c *store) drop(key []byte, now time.Time) {
	s := c.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	var known Account
	if c.get(key, now, &known) {
		if rest := known.forgotten(c.periods.until(&known)); !rest.former.IsZero() {
			c.set(key, now, rest)
			return
		}
	}
	c.cache.Delete(key)
}

// dropAll forgets all accounts.
func (c *store) dropAll(now instant) {
	c.floor.Store(int64(now))
	c.outdate()
}

// outdate has every lookup that is under way be made again.
func (c *store) outdate() {
	for i := range c.stripes {
		s := &c.stripes[i]
		s.mu.Lock()
		s.generation++
		s.mu.Unlock()
	}
}

// flush forgets all accounts, and returns how many there were.
func (c *store) flush(now instant) int64 {
	c.dropAll(now)
	return c.cache.Clear()
}
