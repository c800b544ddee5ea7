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

// DefaultKey is where the Upstash adapter of Auth.js keeps a user, as JSON.
const DefaultKey = "user:" + subject

// subject stands in Config.Key for the user id.
const subject = "{subject}"

// Config says where users are in Redis. Fields are those of a hash, or of a
// JSON object that is a string.
type Config struct {
	// URL returns the address. It is asked again for each connection.
	URL func() (string, error) `json:"-"`
	// Key is the key of a user, with {subject} once for the id. Default:
	// DefaultKey.
	Key string
	// Disabled are fields any of which disables the user: true, an integer
	// other than 0, or a time that has come.
	Disabled []string
	// CreatedAt and ValidAfter are fields of times: RFC 3339, or seconds or
	// milliseconds since 1970.
	CreatedAt, ValidAfter string
	// Match are the fields that claims have to equal.
	Match []string
	// NoEviction asserts that the server never evicts keys, where it does not
	// tell.
	NoEviction bool
}

// Directory looks users up in Redis. It is a directories.Watcher.
type Directory struct {
	config         Config
	prefix, suffix string
	client         *Client
	hashes         atomic.Bool // users were hashes when they were seen last

	mu      sync.Mutex
	changed func(subjects ...string) // while somebody watches
}

// NewDirectory returns the directory of a configuration. It does not connect.
func NewDirectory(config Config) (*Directory, error) {
	d := &Directory{config: config}
	d.config.Key = cmp.Or(config.Key, DefaultKey)
	var ok bool
	if d.prefix, d.suffix, ok = strings.Cut(d.config.Key, subject); !ok || strings.Contains(d.suffix, subject) {
		return nil, fmt.Errorf("key is %q; it must have %s in it, once", d.config.Key, subject)
	}
	var err error
	d.client, err = Open(config.URL, d.prefix, d.told)
	return d, err
}

// Close ends the connections.
func (d *Directory) Close() error {
	d.client.Close()
	return nil
}

// String names the place.
func (d *Directory) String() string { return d.client.String() }

func (d *Directory) key(subject string) string { return d.prefix + subject + d.suffix }

// told reports which users have changed; any may have when keys is nil.
func (d *Directory) told(keys []string) {
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

// Lookup implements directories.Directory. An absence that is to be confirmed
// counts if a primary says so that evicts no keys.
func (d *Directory) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	client, err := d.client.Get()
	if err != nil {
		return nil, classified(err)
	}
	subjects := make([]string, len(queries))
	confirm := false
	for i, q := range queries {
		subjects[i] = string(q.Subject)
		confirm = confirm || !q.Since.IsZero()
	}
	if !confirm {
		accounts, _, err := d.read(ctx, client, subjects, nil)
		return accounts, err
	}
	accounts, distrust, err := d.confirm(ctx, client, subjects)
	if err != nil {
		return nil, err
	}
	for i := range accounts {
		if a := &accounts[i]; !a.Exists && a.Failure == nil && !queries[i].Since.IsZero() {
			a.Failure = distrust
		}
	}
	return accounts, nil
}

// confirm reads users, and returns why a server cannot be trusted that says
// that one does not exist.
func (d *Directory) confirm(ctx context.Context, client rueidis.Client, subjects []string) (accounts []directories.Account, distrust, err error) {
	if client.Mode() != rueidis.ClientModeCluster {
		return d.read(ctx, client, subjects, infoOf(client))
	}
	for _, node := range client.Nodes() { // the primary of a key answers for it
		if distrust = d.trust(true, node.DoMulti(ctx, infoOf(node)...)); distrust != nil {
			break
		}
	}
	accounts, _, err = d.read(ctx, client, subjects, nil)
	return accounts, distrust, err
}

// standby is why the word of a server does not count.
func standby(text string) error {
	return &directories.Error{Class: directories.Standby, Text: text}
}

func infoOf(client rueidis.Client) rueidis.Commands {
	return rueidis.Commands{client.B().Info().Section("replication").Build(), client.B().Info().Section("memory").Build()}
}

// trust tells whether a server can know that a user does not exist, by what it
// says of itself.
func (d *Directory) trust(cluster bool, info []rueidis.RedisResult) error {
	said := make(map[string]string)
	for _, result := range info {
		text, err := result.ToString()
		if err != nil {
			return classified(err)
		}
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				said[name] = value
			}
		}
	}
	policy, told := said["maxmemory_policy"]
	switch {
	case said["role"] == "slave" && cluster:
		return nil // it does not answer
	case said["role"] != "master":
		return standby("Redis is a replica, which may not have heard of a user yet: give the address of the master, or of the Sentinels with master_set")
	case d.config.NoEviction:
		return nil
	case !told:
		return standby("Redis does not tell whether it evicts keys, so a user that is not there proves nothing: `no_eviction` asserts that it does not")
	case said["maxmemory"] != "0" && strings.HasPrefix(policy, "allkeys-"):
		return standby("Redis evicts keys when its memory is full (maxmemory-policy " + policy + "), so a user that is not there proves nothing: set it to noeviction, or look users up elsewhere after it")
	}
	return nil
}

// read reads users, after further commands that tell whether the server can be
// trusted.
func (d *Directory) read(ctx context.Context, client rueidis.Client, subjects []string, first rueidis.Commands) (accounts []directories.Account, distrust, err error) {
	accounts = make([]directories.Account, len(subjects))
	at := make([]int, len(subjects))
	for i := range at {
		at[i] = i
	}
	hashes := d.hashes.Load()
	for range 2 {
		others, doubt, err := d.readAs(ctx, client, hashes, subjects, at, accounts, first)
		if err != nil {
			return nil, nil, err
		}
		if distrust = cmp.Or(distrust, doubt); len(others) == 0 {
			return accounts, distrust, nil
		}
		// Those are of the other type.
		at, hashes = others, !hashes
		d.hashes.Store(hashes)
	}
	for _, i := range at {
		accounts[i].Failure = &directories.Error{Class: directories.Schema, Text: "a key of Redis is neither a string nor a hash: `key` is wrong"}
	}
	return accounts, distrust, nil
}

// readAs reads the users at some places as hashes or as strings, and returns
// the places of those that are not.
func (d *Directory) readAs(ctx context.Context, client rueidis.Client, hashes bool, subjects []string, at []int, accounts []directories.Account, first rueidis.Commands) (others []int, distrust, err error) {
	commands := append(make(rueidis.Commands, 0, len(first)+len(at)), first...)
	for _, i := range at {
		if hashes {
			commands = append(commands, client.B().Hgetall().Key(d.key(subjects[i])).Build())
		} else {
			commands = append(commands, client.B().Get().Key(d.key(subjects[i])).Build())
		}
	}
	results := client.DoMulti(ctx, commands...)
	if len(first) > 0 {
		distrust = d.trust(false, results[:len(first)])
	}
	for n, result := range results[len(first):] {
		i := at[n]
		user, err := userOf(result, hashes)
		switch failure, ok := rueidis.IsRedisErr(err); {
		case ok && strings.HasPrefix(failure.Error(), "WRONGTYPE"):
			others = append(others, i)
		case err != nil:
			return nil, nil, classified(err)
		default:
			accounts[i] = d.account(user, subjects[i], time.Now())
		}
	}
	return others, distrust, nil
}

// classified makes a *directories.Error of an error of the driver.
func classified(err error) error {
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
		case "MASTERDOWN", "READONLY":
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
