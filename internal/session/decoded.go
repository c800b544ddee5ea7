package session

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
)

// maxDecoded bounds the memory of decoded tokens, in bytes.
const maxDecoded = 32 << 20

// decoded remembers the claims of tokens, because to decrypt one costs more
// than all the rest. Only tokens of the app are remembered, so that nobody can
// drive these out with others. It has no goroutine to end.
type decoded struct {
	cache *otter.Cache[digest, Claims]
	// key keeps anybody from finding two tokens with one digest.
	key     [32]byte
	buffers sync.Pool
}

// digest stands for a token under the base name of a cookie. The token itself
// is not kept.
type digest [sha256.Size]byte

func newDecoded() (*decoded, error) {
	d := &decoded{buffers: sync.Pool{New: func() any { return new([]byte) }}}
	_, _ = rand.Read(d.key[:]) // never fails
	var err error
	d.cache, err = otter.New(&otter.Options[digest, Claims]{
		MaximumWeight: maxDecoded,
		Weigher: func(_ digest, c Claims) uint32 {
			weight := 256 + len(c.Subject)
			for path, value := range c.Match {
				weight += 64 + len(path) + len(value)
			}
			return uint32(weight) //nolint:gosec // tokens are bounded
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making the cache of tokens: %w", err)
	}
	return d, nil
}

// digest returns the digest of a token.
func (d *decoded) digest(base, text string) digest {
	buffer := d.buffers.Get().(*[]byte)
	defer d.buffers.Put(buffer)
	*buffer = append((*buffer)[:0], d.key[:]...)
	*buffer = append(*buffer, base...)
	*buffer = append(*buffer, 0)
	*buffer = append(*buffer, text...)
	return sha256.Sum256(*buffer)
}

// find returns the claims of a token, if they are remembered and it has not
// expired since.
func (d *decoded) find(key digest, now time.Time) (claims Claims, expired, found bool) {
	claims, found = d.cache.GetIfPresent(key)
	if !found || claims.ExpiresAt.IsZero() || claims.ExpiresAt.After(now.Add(-clockTolerance)) {
		return claims, false, found
	}
	d.cache.Invalidate(key)
	return Claims{}, true, true
}

// keep remembers the claims of a token.
func (d *decoded) keep(key digest, claims Claims) {
	d.cache.Set(key, claims)
}
