package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// DefaultKey is the key of a user with the Upstash adapter of Auth.js, which
// writes JSON.
const DefaultKey = "user:" + subject

// subject is the place of the user id in Config.Key.
const subject = "{subject}"

// Config says where users are in Redis. A user is a hash, or a string with a JSON
// object; fields are those of either.
type Config struct {
	// URL returns the address. It is called for each connection.
	URL func() (string, error) `json:"-"`
	// Key is the key of a user, with {subject} in place of the user id. Default:
	// DefaultKey.
	Key string
	// Disabled are fields of which any disables the user: true, an integer other
	// than 0, or a time that is not in the future.
	Disabled []string
	// CreatedAt and ValidAfter are fields with a time: RFC 3339, or seconds or
	// milliseconds since 1970.
	CreatedAt, ValidAfter string
	// Match are the fields that claims must equal.
	Match []string
	// NoEviction asserts that the server never evicts keys, if it does not report
	// that itself.
	NoEviction bool
}

// Directory looks users up in Redis. It is a directories.Watcher.
type Directory struct {
	config         Config
	prefix, suffix string
	client         *Client
	hashes         atomic.Bool // the users read last were hashes

	mu      sync.Mutex
	changed func(subjects ...string) // nil without a watch
}

// NewDirectory returns the directory of a configuration, without connecting. An
// error is an invalid key or address.
func NewDirectory(config Config) (*Directory, error) {
	d := &Directory{config: config}
	d.config.Key = cmp.Or(config.Key, DefaultKey)
	var ok bool
	if d.prefix, d.suffix, ok = strings.Cut(d.config.Key, subject); !ok || strings.Contains(d.suffix, subject) {
		return nil, fmt.Errorf("key is %q; it must contain %s once", d.config.Key, subject)
	}
	var err error
	d.client, err = Open(config.URL, d.prefix, d.invalidate)
	return d, err
}

// Close closes the connections.
func (d *Directory) Close() error {
	d.client.Close()
	return nil
}

// String names the server.
func (d *Directory) String() string { return d.client.String() }

func (d *Directory) key(subject string) string { return d.prefix + subject + d.suffix }

// invalidate reports the users of changed keys; nil means that any may have
// changed.
func (d *Directory) invalidate(keys []string) {
	var subjects []string
	for _, key := range keys {
		rest, ok := strings.CutPrefix(key, d.prefix)
		if subject, ok2 := strings.CutSuffix(rest, d.suffix); ok && ok2 {
			subjects = append(subjects, subject)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed != nil && (keys == nil || len(subjects) > 0) {
		d.changed(subjects...)
	}
}

// Lookup implements directories.Directory. What ends sessions must be the answer of a
// primary, and a missing user is gone only if that evicts no keys.
func (d *Directory) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	client, err := d.client.Get()
	if err != nil {
		return nil, classify(err)
	}
	subjects := make([]string, len(queries))
	confirm := false
	for i, q := range queries {
		subjects[i] = string(q.Subject)
		confirm = confirm || !q.Since.IsZero()
	}
	accounts, distrust, err := d.read(ctx, client, subjects, confirm)
	if err != nil {
		return nil, err
	}
	if confirm && client.Mode() == rueidis.ClientModeCluster {
		distrust = d.trustAll(ctx, client)
	}
	for i := range accounts {
		a := &accounts[i]
		if ends := !a.Exists || a.Disabled && a.Replica; ends && a.Failure == nil && !queries[i].Since.IsZero() {
			a.Failure = distrust
		}
	}
	return accounts, nil
}

// trustAll returns why a missing key of a cluster proves nothing; nil if it proves that the
// user does not exist. Each key is read from its primary.
func (d *Directory) trustAll(ctx context.Context, client rueidis.Client) error {
	for _, node := range client.Nodes() {
		if s := d.inspect(node.DoMulti(ctx, d.infoOf(node, true)...)); s.distrust != nil && s.role != "slave" {
			return s.distrust
		}
	}
	return nil
}

// standby returns an error of a server whose answer proves nothing.
func standby(text string) error {
	return &directories.Error{Class: directories.Standby, Text: text}
}

// server is what a server says of itself.
type server struct {
	role     string // master or slave; empty if it does not say
	distrust error  // why a missing key proves nothing; nil if it proves that the user does not exist
}

// infoOf returns the commands that ask a server for its role and, if a missing key is to be
// confirmed, whether it evicts keys.
func (d *Directory) infoOf(client rueidis.Client, confirm bool) rueidis.Commands {
	info := rueidis.Commands{client.B().Info().Section("replication").Build()}
	if confirm && !d.config.NoEviction {
		info = append(info, client.B().Info().Section("memory").Build())
	}
	return info
}

// inspect reads the answers to what infoOf returns.
func (d *Directory) inspect(info []rueidis.RedisResult) (s server) {
	properties := make(map[string]string)
	var failed error
	for _, result := range info {
		text, err := result.ToString()
		failed = cmp.Or(failed, classify(err))
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				properties[name] = value
			}
		}
	}
	s.role = properties["role"]
	policy, known := properties["maxmemory_policy"]
	switch {
	case failed != nil:
		s.distrust = failed
	case s.role != "master":
		s.distrust = standby("Redis is a replica, which may not have the user yet: use the address of the master, or of the Sentinels with master_set")
	case d.config.NoEviction:
	case !known:
		s.distrust = standby("Redis does not report whether it evicts keys, so a missing user proves nothing: set `no_eviction` if it never evicts keys")
	case properties["maxmemory"] != "0" && strings.HasPrefix(policy, "allkeys-"):
		s.distrust = standby("Redis evicts keys when its memory is full (maxmemory-policy " + policy + "), so a missing user proves nothing: set it to noeviction")
	}
	return s
}

// read reads users. distrust is why a missing one may exist all the same, by what the server
// says of itself on the same connection; of a cluster see trustAll.
func (d *Directory) read(ctx context.Context, client rueidis.Client, subjects []string, confirm bool) (accounts []directories.Account, distrust, err error) {
	accounts = make([]directories.Account, len(subjects))
	at := make([]int, len(subjects))
	for i := range at {
		at[i] = i
	}
	hashes := d.hashes.Load()
	for range 2 {
		others, reason, err := d.readAs(ctx, client, hashes, subjects, at, accounts, confirm)
		if err != nil {
			return nil, nil, err
		}
		if distrust = cmp.Or(distrust, reason); len(others) == 0 {
			return accounts, distrust, nil
		}
		at, hashes = others, !hashes
		d.hashes.Store(hashes)
	}
	for _, i := range at {
		accounts[i].Failure = &directories.Error{Class: directories.Schema, Text: "a key in Redis is neither a string nor a hash: check `key`"}
	}
	return accounts, distrust, nil
}

// readAs reads the users with the indexes at, as hashes or as strings, and returns
// the indexes of those with another type.
func (d *Directory) readAs(ctx context.Context, client rueidis.Client, hashes bool, subjects []string, at []int, accounts []directories.Account, confirm bool) (others []int, distrust, err error) {
	var commands rueidis.Commands
	if client.Mode() != rueidis.ClientModeCluster {
		commands = d.infoOf(client, confirm)
	}
	info := len(commands)
	for _, i := range at {
		if hashes {
			commands = append(commands, client.B().Hgetall().Key(d.key(subjects[i])).Build())
		} else {
			commands = append(commands, client.B().Get().Key(d.key(subjects[i])).Build())
		}
	}
	results := client.DoMulti(ctx, commands...)
	s := server{role: "master"} // of each key in a cluster
	if info > 0 {
		s = d.inspect(results[:info])
	}
	for n, result := range results[info:] {
		i := at[n]
		user, err := parseUser(result, hashes)
		switch failure, ok := rueidis.IsRedisErr(err); {
		case ok && strings.HasPrefix(failure.Error(), "WRONGTYPE"):
			others = append(others, i)
		case err != nil:
			return nil, nil, classify(err)
		default:
			accounts[i] = d.account(user, subjects[i], time.Now())
			accounts[i].Replica = s.role != "master"
		}
	}
	return others, s.distrust, nil
}

// classify converts an error of the driver to a *directories.Error.
func classify(err error) error {
	var known *directories.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	class := directories.Down
	if failure, ok := rueidis.IsRedisErr(err); ok {
		switch kind, _, _ := strings.Cut(failure.Error(), " "); kind {
		case "NOAUTH", "WRONGPASS":
			class = directories.Refused
		case "NOPERM":
			class = directories.Rights
		case "READONLY":
			class = directories.Standby
		}
	} else if errors.Is(err, context.DeadlineExceeded) {
		class = directories.Slow
	}
	return &directories.Error{Class: class, Text: Describe(err)}
}

// Interface guards
var (
	_ directories.Watcher = (*Directory)(nil)
	_ io.Closer           = (*Directory)(nil)
)
