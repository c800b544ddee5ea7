package revocation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
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
	// identifyPeriod is how often it is asked who the users are, once that is known:
	// the database may be another one behind the same address.
	identifyPeriod = 30 * time.Second
)

// Redis is a Store in Redis or Valkey. Each revocation has a key for each name of the
// users, which expires after the longest life that a node gives it. The value is its
// time in microseconds since 1970, negative if it was undone. All names hold the same,
// and each is enough, because a name may change.
type Redis struct {
	client *redis.Client
	life   time.Duration

	mu       sync.Mutex
	prefixes []string            // of keys, by name
	users    []*Identify         // in use
	keys     map[string]struct{} // changed since they were last read
	all      bool                // any key may have changed
	changed  chan struct{}
}

// Identify returns what identifies the users, whatever the address of their database
// is; empty if that is not known now.
type Identify func(ctx context.Context) string

// OpenRedis returns the store of a users table in a Redis, without connecting.
// Nodes share revocations if they use the same name. With a life of 0,
// revocations are kept for DefaultLife. An error is one of the URL.
func OpenRedis(url func() (string, error), name string, life time.Duration) (*Redis, error) {
	if life == 0 {
		life = DefaultLife
	}
	r := &Redis{
		prefixes: []string{prefixOf(name)}, life: life,
		keys: make(map[string]struct{}), changed: make(chan struct{}, 1),
	}
	var err error
	r.client, err = redis.Open(url, redisPrefix, r.invalidate)
	return r, err
}

// prefixOf returns the prefix of the keys for a name of the users.
func prefixOf(name string) string {
	digest := sha256.Sum256([]byte(name))
	return redisPrefix + hex.EncodeToString(digest[:8]) + ":"
}

// Use lets the store ask who the users are, until release is called.
func (r *Redis) Use(identify Identify) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users = append(r.users, &identify)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.users = slices.DeleteFunc(r.users, func(other *Identify) bool { return other == &identify })
	}
}

// identify asks who the users are, and adds that to their names. It returns when to
// ask again.
func (r *Redis) identify(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, firstPoll) // revocations wait for it
	defer cancel()
	r.mu.Lock()
	users := slices.Clone(r.users)
	r.mu.Unlock()
	for _, identify := range users {
		name := (*identify)(ctx)
		if name == "" {
			continue
		}
		r.mu.Lock()
		prefix := prefixOf(name)
		added := !slices.Contains(r.prefixes, prefix)
		if added {
			r.prefixes = append(r.prefixes, prefix)
		}
		r.mu.Unlock()
		if added {
			r.invalidate(nil)
		}
		return identifyPeriod
	}
	return pollPeriod
}

// names returns the prefixes of the keys.
func (r *Redis) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.prefixes)
}

// cut returns the prefix and the rest of a key; nothing if it is of other users.
func cut(key string, prefixes []string) (prefix, rest string) {
	for _, prefix := range prefixes {
		if rest, ours := strings.CutPrefix(key, prefix); ours {
			return prefix, rest
		}
	}
	return "", ""
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
		if prefix, _ := cut(key, r.prefixes); prefix != "" {
			r.keys[key] = struct{}{}
		}
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
	prefixes := r.names()
	var commands rueidis.Commands
	for _, revocation := range all {
		for _, prefix := range prefixes {
			commands = append(commands, client.B().Pttl().Key(prefix+revocation.key()).Build())
		}
	}
	lives := client.DoMulti(ctx, commands...)
	commands = nil
	for i, revocation := range all {
		life := r.life // unless another node has given it a longer one
		for _, result := range lives[i*len(prefixes) : (i+1)*len(prefixes)] {
			left, err := result.AsInt64()
			if err != nil {
				return describe(err)
			}
			life = max(life, time.Duration(left)*time.Millisecond)
		}
		value := revocation.At.UnixMicro()
		if revocation.Restored {
			value = -value
		}
		for _, prefix := range prefixes {
			commands = append(commands, client.B().Set().Key(prefix+revocation.key()).Value(strconv.FormatInt(value, 10)).Px(life).Build())
		}
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
	prefix := r.names()[0]
	key := prefix + "doctor"
	for _, result := range client.DoMulti(ctx,
		client.B().Set().Key(key).Value("0").Xx().Build(),
		client.B().Get().Key(key).Build(),
		client.B().Pttl().Key(key).Build(),
		client.B().Scan().Cursor(0).Match(prefix+"*").Count(1).Build()) {
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
	next := time.NewTimer(r.identify(ctx))
	defer next.Stop()
	lost := make(chan error, 1)
	var watching sync.WaitGroup
	watching.Go(func() { lost <- r.client.Watch(ctx, func() { r.invalidate(nil) }) })
	defer watching.Wait()
	defer cancel()
	for {
		select {
		case err := <-lost:
			return describe(err)
		case <-next.C:
			next.Reset(r.identify(ctx))
			continue
		case <-r.changed:
		}
		prefixes := r.names()
		keys, all := r.takeChanged()
		var found []Revocation
		var err error
		if all {
			found, err = r.scan(ctx, prefixes)
		} else {
			found, err = r.read(ctx, keys, prefixes)
		}
		if err != nil {
			return describe(err)
		}
		latest, uneven := latestOf(found, len(prefixes))
		merge(latest, all)
		if all && len(uneven) > 0 {
			if err := r.Put(ctx, uneven); err != nil {
				return err
			}
		}
	}
}

// latestOf returns the latest state of each revocation, and those of which not all
// names hold that.
func latestOf(found []Revocation, names int) (latest, uneven []Revocation) {
	holders := make(map[string]int, len(found))
	states := make(map[string]Revocation, len(found))
	for _, r := range found {
		key := r.key()
		switch known, seen := states[key]; {
		case !seen || r.state().after(known.state()):
			states[key], holders[key] = r, 1
		case !known.state().after(r.state()):
			holders[key]++
		}
	}
	for key, r := range states {
		latest = append(latest, r)
		if holders[key] < names {
			uneven = append(uneven, r)
		}
	}
	return latest, uneven
}

// scan reads all revocations from each server.
func (r *Redis) scan(ctx context.Context, prefixes []string) ([]Revocation, error) {
	client, err := r.client.Get()
	if err != nil {
		return nil, err
	}
	var found []Revocation
	seen := make(map[string]struct{}) // a replica has the keys of its primary, and SCAN may return a key twice
	for _, node := range client.Nodes() {
		for cursor := uint64(0); ; {
			entry, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(redisPrefix+"*").Count(scanCount).Build()).AsScanEntry()
			if err != nil {
				return nil, err
			}
			page, err := r.read(ctx, unseen(entry.Elements, prefixes, seen), prefixes)
			if err != nil {
				return nil, err
			}
			found = append(found, page...)
			if cursor = entry.Cursor; cursor == 0 {
				break
			}
			if most := 2 * maxEntries; len(seen) > most*len(prefixes) {
				return nil, fmt.Errorf("there are more than %d revocations", most)
			}
		}
	}
	return found, nil
}

// unseen returns those of the keys that are of these users and new, and adds them to
// those that were seen.
func unseen(keys, prefixes []string, seen map[string]struct{}) (fresh []string) {
	for _, key := range keys {
		if prefix, _ := cut(key, prefixes); prefix == "" {
			continue
		}
		if _, again := seen[key]; !again {
			seen[key] = struct{}{}
			fresh = append(fresh, key)
		}
	}
	return fresh
}

// read reads the revocations with the given keys. A missing key has expired or
// was lost, which does not undo the revocation. Invalid values are ignored, and the
// keys of other users.
func (r *Redis) read(ctx context.Context, keys, prefixes []string) ([]Revocation, error) {
	client, err := r.client.Get()
	if err != nil {
		return nil, err
	}
	var commands rueidis.Commands
	var names []string
	for _, key := range keys {
		if prefix, name := cut(key, prefixes); prefix != "" {
			commands = append(commands, client.B().Get().Key(key).Build())
			names = append(names, name)
		}
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
		if revocation, ok := parse(names[i], state{time.UnixMicro(max(value, -value)), value < 0}); ok {
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
