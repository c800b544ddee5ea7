package session

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/minio/highwayhash"

	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
)

// TokenBytes is the room of what a token says, with a subject as long as a UUID
// and without claims to match. Some of it is for what does not spread evenly.
const TokenBytes = 100

// defaultCacheBytes bounds the memory of decoded tokens, in bytes: of 100,000.
const defaultCacheBytes = 100_000 * TokenBytes

// longest is how long a token is remembered that does not expire sooner.
const longest = 365 * 24 * time.Hour

// decoded remembers the claims of tokens, because to decrypt one costs more
// than all the rest. Only tokens of the app are remembered, so that nobody can
// drive these out with others.
type decoded struct {
	cache *cache.Cache
	// key keeps anybody from finding two tokens with one digest.
	key     [highwayhash.Size]byte
	buffers sync.Pool
}

// digest stands for a token under the base name of a cookie. The token itself
// is not kept.
type digest [highwayhash.Size128]byte

func newDecoded(bytes int) *decoded {
	d := &decoded{cache: cache.New(bytes), buffers: sync.Pool{New: func() any { return new([]byte) }}}
	_, _ = rand.Read(d.key[:]) // never fails
	return d
}

// Close forgets the decoded tokens. The reader can be used all the same.
func (rd *Reader) Close() { rd.decoded.cache.Close() }

// Stats returns the figures of the cache of decoded tokens.
func (rd *Reader) Stats() cache.Stats { return rd.decoded.cache.Stats() }

// digest returns the digest of a token.
func (d *decoded) digest(base, text string) digest {
	buffer := d.buffers.Get().(*[]byte)
	defer d.buffers.Put(buffer)
	*buffer = append((*buffer)[:0], base...)
	*buffer = append(*buffer, 0)
	*buffer = append(*buffer, text...)
	return highwayhash.Sum128(*buffer, d.key[:])
}

// find reads the claims of a token into c, if they are remembered and it has
// not expired since.
func (d *decoded) find(key digest, now time.Time, c *Claims) (expired, found bool) {
	if c.encoded, found = d.cache.Get(key[:], c.scratch[:], now); !found {
		return false, false
	}
	c.decode()
	if c.ExpiresAt.IsZero() || c.ExpiresAt.After(now.Add(-clockTolerance)) {
		return false, true
	}
	d.cache.Delete(key[:])
	return true, true
}

// keep remembers the claims of a token until it expires.
func (d *decoded) keep(key digest, now time.Time, c *Claims) {
	left := longest
	if !c.ExpiresAt.IsZero() {
		left = min(left, c.ExpiresAt.Sub(now)+clockTolerance)
	}
	var room [128]byte
	d.cache.Set(key[:], c.appendTo(room[:0]), now, left)
}
