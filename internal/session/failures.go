package session

import (
	"encoding/binary"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
)

// failureLife is how long a token is remembered that is not valid. It is short because
// a token that names an unknown key has the key set fetched again, but not always at
// once.
const failureLife = time.Minute

// failures remembers signed tokens that are not valid, so that one that is sent again
// is not verified again. It is apart from the cache of tokens, because anybody can
// fill it.
type failures struct{ entries *cache.Cache }

// failureBytes is the size of failures: some ten thousand tokens.
const failureBytes = 512 << 10

func newFailures() *failures { return &failures{cache.New(failureBytes)} }

// get returns why a token is not valid by the keys of a generation; empty if that is
// not known.
func (f *failures) get(key digest, generation uint64, now time.Time) Failure {
	var room [8]byte
	of := failureKey(key, generation)
	value, found := f.entries.Get(of[:], room[:], now)
	if !found {
		return ""
	}
	micros := int64(binary.LittleEndian.Uint64(value)) //nolint:gosec // as it was written
	switch {
	case micros == noTime:
		return Undecodable
	case micros == askingTime:
		return appAsks
	case micros == nobodyTime:
		return nobody
	case time.UnixMicro(micros).After(now.Add(-clockTolerance)): // the clock was set back
		return ""
	}
	return Expired
}

// put remembers a token that is not valid by the keys of a generation: because it
// expired at a time, if that is not zero.
func (f *failures) put(key digest, generation uint64, now, expired time.Time) {
	micros := int64(noTime)
	if !expired.IsZero() {
		micros = expired.UnixMicro()
	}
	f.set(key, generation, now, micros)
}

// appAsks and nobody stand for texts that are no failures, but have nothing to judge
// either: see Claims.AppAsks and formats.ErrNobody. askingTime and nobodyTime encode
// them.
const (
	appAsks    Failure = "app_asks"
	nobody     Failure = "nobody"
	askingTime         = noTime + 1
	nobodyTime         = noTime + 2
)

// putAppAsks remembers a text that the app itself looks up. There can be as many as
// somebody likes, of one session, so they are not in the cache of tokens.
func (f *failures) putAppAsks(key digest, generation uint64, now time.Time) {
	f.set(key, generation, now, askingTime)
}

func (f *failures) set(key digest, generation uint64, now time.Time, micros int64) {
	var value [8]byte
	binary.LittleEndian.PutUint64(value[:], uint64(micros)) //nolint:gosec // read back as it is
	of := failureKey(key, generation)
	f.entries.Set(of[:], value[:], now, failureLife)
}

// failureKey is the key of a token and of the keys that it is verified by: new keys
// count at once.
func failureKey(key digest, generation uint64) (of [len(digest{}) + 8]byte) {
	copy(of[:], key[:])
	binary.LittleEndian.PutUint64(of[len(key):], generation)
	return of
}
