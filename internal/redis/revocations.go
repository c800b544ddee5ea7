package redis

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

	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

const (
	// revokedPrefix is the prefix of all keys.
	revokedPrefix = "stale_session:revoked:"
	// scanCount is how many keys a SCAN examines. With more changed keys, all are
	// read again.
	scanCount = 1000
	// identifyPeriod is how often it is asked who the users are, once that is known:
	// the database may be another one behind the same address.
	identifyPeriod = 30 * time.Second
	// identifyRetry is how often it is asked before.
	identifyRetry = 3 * time.Second
	// identifyTimeout bounds the answer: revocations wait for it.
	identifyTimeout = 300 * time.Millisecond
)

// Revocations is a revocation.Store in Redis or Valkey. Each revocation has a key for
// each name of the users, which expires after the longest life that a node gives it,
// unless it is a block. The value is its time in microseconds since 1970, negative if it
// was undone. All names hold the same, and each is enough, because a name may change.
type Revocations struct {
	client *Client
	life   time.Duration

	mu       sync.Mutex
	prefixes []string               // of keys, by name
	users    []*revocation.Identify // in use
	keys     map[string]struct{}    // changed since they were last read
	all      bool                   // any key may have changed
	changed  chan struct{}
}

// OpenRevocations returns the store of a users table in a Redis, without connecting.
// Nodes share revocations if they use the same name. With a life of 0,
// revocations are kept for revocation.DefaultLife. An error is one of the URL.
func OpenRevocations(url func() (string, error), name string, life time.Duration) (*Revocations, error) {
	if life == 0 {
		life = revocation.DefaultLife
	}
	r := &Revocations{
		prefixes: []string{prefixOf(name)}, life: life,
		keys: make(map[string]struct{}), changed: make(chan struct{}, 1),
	}
	var err error
	r.client, err = Open(url, revokedPrefix, r.invalidate)
	return r, err
}

// prefixOf returns the prefix of the keys for a name of the users.
func prefixOf(name string) string {
	digest := sha256.Sum256([]byte(name))
	return revokedPrefix + hex.EncodeToString(digest[:8]) + ":"
}

// Use lets the store ask who the users are, until release is called.
func (r *Revocations) Use(identify revocation.Identify) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users = append(r.users, &identify)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.users = slices.DeleteFunc(r.users, func(other *revocation.Identify) bool { return other == &identify })
	}
}

// identify asks who the users are, and adds that to their names. It returns when to
// ask again.
func (r *Revocations) identify(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
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
	return identifyRetry
}

// names returns the prefixes of the keys.
func (r *Revocations) names() []string {
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
func (r *Revocations) Close() { r.client.Close() }

// String implements revocation.Store.
func (r *Revocations) String() string { return r.client.String() }

// invalidate records changed keys; nil means any key.
func (r *Revocations) invalidate(keys []string) {
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
func (r *Revocations) takeChanged() (keys []string, all bool) {
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

// Put implements revocation.Store.
func (r *Revocations) Put(ctx context.Context, all []revocation.Revocation) error {
	client, err := r.client.Get()
	if err != nil {
		return describe(err)
	}
	prefixes := r.names()
	var commands rueidis.Commands
	for _, revoked := range all {
		for _, prefix := range prefixes {
			commands = append(commands, client.B().Pttl().Key(prefix+revoked.Key()).Build())
		}
	}
	lives := client.DoMulti(ctx, commands...)
	commands = nil
	for i, revoked := range all {
		life := revoked.Life(r.life) // unless another node has given it a longer one
		for _, result := range lives[i*len(prefixes) : (i+1)*len(prefixes)] {
			left, err := result.AsInt64()
			if err != nil {
				return describe(err)
			}
			if life != revocation.Forever {
				life = max(life, time.Duration(left)*time.Millisecond)
			}
		}
		value := revoked.At.UnixMicro()
		if revoked.Restored {
			value = -value
		}
		for _, prefix := range prefixes {
			set := client.B().Set().Key(prefix + revoked.Key()).Value(strconv.FormatInt(value, 10))
			if life == revocation.Forever {
				commands = append(commands, set.Build())
			} else {
				commands = append(commands, set.Px(life).Build())
			}
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
func (r *Revocations) Examine(ctx context.Context) error {
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

// Follow implements revocation.Store.
func (r *Revocations) Follow(ctx context.Context, merge func([]revocation.Revocation, bool)) error {
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
		var found []revocation.Revocation
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
func latestOf(found []revocation.Revocation, names int) (latest, uneven []revocation.Revocation) {
	holders := make(map[string]int, len(found))
	states := make(map[string]revocation.Revocation, len(found))
	for _, r := range found {
		key := r.Key()
		switch known, seen := states[key]; {
		case !seen || r.Supersedes(known):
			states[key], holders[key] = r, 1
		case !known.Supersedes(r):
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
func (r *Revocations) scan(ctx context.Context, prefixes []string) ([]revocation.Revocation, error) {
	client, err := r.client.Get()
	if err != nil {
		return nil, err
	}
	var found []revocation.Revocation
	seen := make(map[string]struct{}) // a replica has the keys of its primary, and SCAN may return a key twice
	for _, node := range client.Nodes() {
		for cursor := uint64(0); ; {
			entry, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(revokedPrefix+"*").Count(scanCount).Build()).AsScanEntry()
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
			if most := 2 * revocation.MaxEntries; len(seen) > most*len(prefixes) {
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
func (r *Revocations) read(ctx context.Context, keys, prefixes []string) ([]revocation.Revocation, error) {
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
	var found []revocation.Revocation
	for i, result := range client.DoMulti(ctx, commands...) {
		value, err := result.AsInt64()
		switch {
		case rueidis.IsRedisNil(err), errors.Is(err, strconv.ErrSyntax), errors.Is(err, strconv.ErrRange), wrongType(err):
			continue
		case err != nil:
			return nil, err
		}
		if revoked, ok := revocation.Parse(names[i], time.UnixMicro(max(value, -value)), value < 0); ok {
			found = append(found, revoked)
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
	return errors.New(Describe(err))
}

// Interface guard
var _ revocation.Remote = (*Revocations)(nil)
