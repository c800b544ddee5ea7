package revocation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-4adef13c/caddy-stale-session/internal/redis"
)

const (
	// redisPrefix is what the keys begin with.
	redisPrefix = "stale_session:revoked:"
	// scanCount is how many keys a SCAN looks at, and how many a statement asks
	// for.
	scanCount = 1000
	// maxAhead is how far ahead of its clock a node takes a revocation to be.
	maxAhead = 24 * time.Hour
)

// Redis is a store in Redis or Valkey: a key for each revocation, which expires
// with the longest session. The value is when it was revoked, in microseconds
// since 1970, below 0 when that was taken back.
type Redis struct {
	client *redis.Client
	prefix string
	life   time.Duration

	mu      sync.Mutex
	keys    map[string]struct{} // that were changed
	all     bool                // any may have been
	changed chan struct{}
}

// OpenRedis returns the store of a users table in the Redis at a URL. It does
// not connect. Nodes that give the same name share their revocations.
func OpenRedis(url func() (string, error), name string, life time.Duration) (*Redis, error) {
	if life == 0 {
		life = DefaultLife
	}
	digest := sha256.Sum256([]byte(name))
	r := &Redis{
		prefix: redisPrefix + hex.EncodeToString(digest[:8]) + ":", life: life,
		keys: make(map[string]struct{}), changed: make(chan struct{}, 1),
	}
	var err error
	r.client, err = redis.Open(url, r.prefix, r.told)
	return r, err
}

// Close ends the connections.
func (r *Redis) Close() { r.client.Close() }

// String names the store.
func (r *Redis) String() string { return r.client.String() }

// told notes which keys were changed.
func (r *Redis) told(keys []string) {
	r.mu.Lock()
	r.all = r.all || keys == nil || len(r.keys) > scanCount
	for _, key := range keys {
		r.keys[key] = struct{}{}
	}
	if r.all {
		clear(r.keys)
	}
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// taken returns the keys that were changed since it was called last.
func (r *Redis) taken() (keys []string, all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.keys {
		keys = append(keys, key)
	}
	all = r.all
	clear(r.keys)
	r.all = false
	return keys, all
}

// Put implements Store.
func (r *Redis) Put(ctx context.Context, all []Revocation) error {
	client, err := r.client.Get()
	if err != nil {
		return described(err)
	}
	var commands rueidis.Commands
	for _, revocation := range all {
		left := time.Until(revocation.At.Add(r.life))
		if left <= time.Second {
			continue
		}
		value := revocation.At.UnixMicro()
		if revocation.Restored {
			value = -value
		}
		commands = append(commands, client.B().Set().Key(r.prefix+revocation.key()).Value(strconv.FormatInt(value, 10)).Ex(left).Build())
	}
	for _, result := range client.DoMulti(ctx, commands...) {
		if err := result.Error(); err != nil {
			return described(err)
		}
	}
	return nil
}

// Examine tries what the store needs, and changes nothing: a key that is not
// there is not set by XX, but the server says whether it might be.
func (r *Redis) Examine(ctx context.Context) error {
	client, err := r.client.Get()
	if err != nil {
		return described(err)
	}
	key := r.prefix + "doctor"
	for _, result := range client.DoMulti(ctx,
		client.B().Set().Key(key).Value("0").Xx().Build(),
		client.B().Get().Key(key).Build(),
		client.B().Scan().Cursor(0).Match(r.prefix+"*").Count(1).Build()) {
		if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return described(err)
		}
	}
	return nil
}

// Follow implements Store.
func (r *Redis) Follow(ctx context.Context, merge func([]Revocation, bool)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lost := make(chan error, 1)
	var watching sync.WaitGroup
	watching.Go(func() { lost <- r.client.Watch(ctx, func() { r.told(nil) }) })
	defer watching.Wait()
	defer cancel()
	for {
		select {
		case err := <-lost:
			return described(err)
		case <-r.changed:
		}
		keys, all := r.taken()
		var found []Revocation
		var err error
		if all {
			found, err = r.scan(ctx)
		} else {
			found, err = r.read(ctx, keys)
		}
		if err != nil {
			return described(err)
		}
		merge(found, all)
	}
}

// scan reads all revocations, of each server.
func (r *Redis) scan(ctx context.Context) ([]Revocation, error) {
	client, err := r.client.Get()
	if err != nil {
		return nil, err
	}
	var found []Revocation
	for _, node := range client.Nodes() {
		for cursor := uint64(0); ; {
			entry, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(r.prefix+"*").Count(scanCount).Build()).AsScanEntry()
			if err != nil {
				return nil, err
			}
			some, err := r.read(ctx, entry.Elements)
			if err != nil {
				return nil, err
			}
			found = append(found, some...)
			if cursor = entry.Cursor; cursor == 0 {
				break
			}
			if len(found) > 2*maxEntries {
				return nil, fmt.Errorf("there are more than %d revocations", maxEntries)
			}
		}
	}
	return found, nil
}

// read reads the revocations of some keys. One that is gone has expired, or was
// lost: neither takes it back.
func (r *Redis) read(ctx context.Context, keys []string) ([]Revocation, error) {
	client, err := r.client.Get()
	if err != nil {
		return nil, err
	}
	var commands rueidis.Commands
	for _, key := range keys {
		commands = append(commands, client.B().Get().Key(key).Build())
	}
	if len(commands) == 0 {
		return nil, nil
	}
	var found []Revocation
	for i, result := range client.DoMulti(ctx, commands...) {
		value, err := result.AsInt64()
		switch {
		case rueidis.IsRedisNil(err), errors.Is(err, strconv.ErrSyntax), errors.Is(err, strconv.ErrRange), ofAnotherType(err): // not ours
			continue
		case err != nil:
			return nil, err
		}
		key, ours := strings.CutPrefix(keys[i], r.prefix)
		at := time.UnixMicro(max(value, -value))
		revocation, ok := ofKey(key, at, value < 0)
		if ours && ok && time.Until(at) < maxAhead { // else nobody could sign in any more, for a value that is wrong
			found = append(found, revocation)
		}
	}
	return found, nil
}

func ofAnotherType(err error) bool {
	failure, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(failure.Error(), "WRONGTYPE")
}

// described is an error that says what to do, and holds no password.
func described(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return errors.New(redis.Describe(err))
}
