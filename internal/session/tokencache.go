package session

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/minio/highwayhash"

	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
)

// maxTokenLife is how long a token is cached that expires later, or never.
const maxTokenLife = 365 * 24 * time.Hour

// tokenCache caches the claims of tokens, because nothing costs as much as
// decrypting them. Only valid tokens are cached, so an attacker without a key
// cannot evict them.
type tokenCache struct {
	entries *cache.Cache
	opened  time.Time
	key     [highwayhash.Size]byte // secret, so that nobody can find two tokens with the same digest
	buffers sync.Pool
}

// digest identifies a token and the base name of its cookie. The cache does not
// hold the token itself.
type digest [highwayhash.Size128]byte

func newTokenCache(bytes int) *tokenCache {
	c := &tokenCache{entries: cache.New(bytes), opened: time.Now(), buffers: sync.Pool{New: func() any { return new([]byte) }}}
	_, _ = rand.Read(c.key[:]) // never fails
	return c
}

// Close releases the cache of decoded tokens. The reader can still be used.
func (rd *Reader) Close() {
	rd.cache.entries.Close()
	rd.failures.entries.Close()
}

// Stats returns the statistics of the cache of decoded tokens.
func (rd *Reader) Stats() cache.Stats { return rd.cache.entries.Stats() }

func (c *tokenCache) digest(base, text string) digest {
	buffer := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(buffer)
	*buffer = append((*buffer)[:0], base...)
	*buffer = append(*buffer, 0)
	*buffer = append(*buffer, text...)
	return highwayhash.Sum128(*buffer, c.key[:])
}

// get reads the cached claims of a token into claims. It reports whether there
// are any, and whether the token has expired since.
func (c *tokenCache) get(key digest, now time.Time, claims *Claims) (expired, found bool) {
	if claims.encoded, found = c.entries.Get(key[:], claims.scratch[:], now); !found {
		return false, false
	}
	claims.encoded = c.cutSeen(claims.encoded, claims)
	claims.decode()
	if claims.ExpiresAt.IsZero() || claims.ExpiresAt.After(now.Add(-clockTolerance)) {
		return false, true
	}
	c.entries.Delete(key[:])
	return true, true
}

// put caches the claims of a token until it expires.
func (c *tokenCache) put(key digest, now time.Time, claims *Claims) {
	life := maxTokenLife
	if !claims.ExpiresAt.IsZero() {
		life = min(life, claims.ExpiresAt.Sub(now)+clockTolerance)
	}
	var buffer [128]byte
	c.entries.Set(key[:], claims.appendTo(c.appendSeen(buffer[:0], claims)), now, life)
}

// seenBytes are enough for the microseconds of some years, and flagReadAt.
const seenBytes = 6

// flagReadAt tells that Claims.ReadAt follows, because it differs from SeenAt.
const flagReadAt = 1 << (8*seenBytes - 1)

// appendSeen appends the times at which a token was read first, as microseconds of
// the process: a clock that somebody sets changes nothing.
func (c *tokenCache) appendSeen(b []byte, claims *Claims) []byte {
	seen, read := c.micros(claims.SeenAt), c.micros(claims.ReadAt)
	if seen == read {
		return appendMicros(b, seen)
	}
	return appendMicros(appendMicros(b, seen|flagReadAt), read)
}

func (c *tokenCache) micros(at time.Time) uint64 {
	return min(uint64(max(0, at.Sub(c.opened).Microseconds())), flagReadAt-1)
}

func appendMicros(b []byte, micros uint64) []byte {
	return binary.LittleEndian.AppendUint64(b, micros)[:len(b)+seenBytes]
}

// cutSeen reads the times at the beginning of b.
func (c *tokenCache) cutSeen(b []byte, claims *Claims) (rest []byte) {
	seen, rest := cutMicros(b)
	read := seen
	if seen&flagReadAt != 0 {
		seen &^= flagReadAt
		read, rest = cutMicros(rest)
	}
	claims.SeenAt, claims.ReadAt = c.at(seen), c.at(read)
	return rest
}

func (c *tokenCache) at(micros uint64) time.Time {
	return c.opened.Add(time.Duration(micros) * time.Microsecond) //nolint:gosec // 47 bits
}

func cutMicros(b []byte) (micros uint64, rest []byte) {
	var room [8]byte
	copy(room[:], b[:seenBytes])
	return binary.LittleEndian.Uint64(room[:]), b[seenBytes:]
}
