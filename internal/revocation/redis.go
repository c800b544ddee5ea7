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
	// redisPrefix is the prefix of all keys.
	redisPrefix = "stale_session:revoked:"
	// scanCount is how many keys a SCAN examines. With more changed keys, all are
	// read again.
	scanCount = 1000
)

// Redis is a Store in Redis or Valkey. Each revocation has a key, which expires
// after the longest life that a node gives it. The value is its time in microseconds
// since 1970, negative if it was undone.
type Redis struct {
	client *redis.Client
	prefix string
	life   time.Duration

	mu      sync.Mutex
	keys    map[string]struct{} // changed since they were last read
	all     bool                // any key may have changed
	changed chan struct{}
}

// OpenRedis returns the store of a users table in a Redis, without connecting.
// Nodes share revocations if they use the same name. With a life of 0,
// revocations are kept for DefaultLife. An error is one of the URL.
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
	r.client, err = redis.Open(url, r.prefix, r.invalidate)
	return r, err
}

// Close closes the connections.
func (r *Redis) Close() { r.client.Close() }

// String implements Store.
func (r *Redis) String() string { return r.client.String() }

// invalidate records changed keys; nil means any key.
func (r *Redis) invalidate(keys []string) {
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

// takeChanged returns the keys that have changed since the last call, or that any
// may have.
func (r *Redis) takeChanged() (keys []string, all bool) {
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
		return describe(err)
	}
	var commands rueidis.Commands
	for _, revocation := range all {
		commands = append(commands, client.B().Pttl().Key(r.prefix+revocation.key()).Build())
	}
	lives := client.DoMulti(ctx, commands...)
	commands = nil
	for i, revocation := range all {
		// Another node may have given it a longer life.
		life, err := lives[i].AsInt64()
		if err != nil {
			return describe(err)
		}
		value := revocation.At.UnixMicro()
		if revocation.Restored {
			value = -value
		}
		commands = append(commands, client.B().Set().Key(r.prefix+revocation.key()).Value(strconv.FormatInt(value, 10)).
			Px(max(r.life, time.Duration(life)*time.Millisecond)).Build())
	}
	for _, result := range client.DoMulti(ctx, commands...) {
		if err := result.Error(); err != nil {
			return describe(err)
		}
	}
	return nil
}

// Examine returns an error if the store cannot be read or written. It changes
// nothing: SET with XX does not create a key, but needs the same rights.
func (r *Redis) Examine(ctx context.Context) error {
	client, err := r.client.Get()
	if err != nil {
		return describe(err)
	}
	key := r.prefix + "doctor"
	for _, result := range client.DoMulti(ctx,
		client.B().Set().Key(key).Value("0").Xx().Build(),
		client.B().Get().Key(key).Build(),
		client.B().Pttl().Key(key).Build(),
		client.B().Scan().Cursor(0).Match(r.prefix+"*").Count(1).Build()) {
		if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return describe(err)
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
	watching.Go(func() { lost <- r.client.Watch(ctx, func() { r.invalidate(nil) }) })
	defer watching.Wait()
	defer cancel()
	for {
		select {
		case err := <-lost:
			return describe(err)
		case <-r.changed:
		}
		keys, all := r.takeChanged()
		var found []Revocation
		var err error
		if all {
			found, err = r.scan(ctx)
		} else {
			found, err = r.read(ctx, keys)
		}
		if err != nil {
			return describe(err)
		}
		merge(found, all)
	}
}

// scan reads all revocations from each server.
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
			page, err := r.read(ctx, entry.Elements)
			if err != nil {
				return nil, err
			}
			found = append(found, page...)
			if cursor = entry.Cursor; cursor == 0 {
				break
			}
			if len(found) > 2*maxEntries {
				return nil, fmt.Errorf("there are more than %d revocations", 2*maxEntries)
			}
		}
	}
	return found, nil
}

// read reads the revocations with the given keys. A missing key has expired or
// was lost, which does not undo the revocation. Invalid values are ignored.
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
		case rueidis.IsRedisNil(err), errors.Is(err, strconv.ErrSyntax), errors.Is(err, strconv.ErrRange), wrongType(err):
			continue
		case err != nil:
			return nil, err
		}
		key, ours := strings.CutPrefix(keys[i], r.prefix)
		at := time.UnixMicro(max(value, -value))
		revocation, ok := parse(key, state{at, value < 0})
		if ours && ok {
			found = append(found, revocation)
		}
	}
	return found, nil
}

func wrongType(err error) bool {
	failure, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(failure.Error(), "WRONGTYPE")
}

// describe returns an error that says what to do, and holds no password.
func describe(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return errors.New(redis.Describe(err))
}
