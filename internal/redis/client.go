// Package redis looks accounts up in Redis or Valkey, and connects to it for
// others that keep something there.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	// dialTimeout bounds a connection's beginning.
	dialTimeout = 2 * time.Second
	// answerTimeout is how long a server may be silent before its connection is
	// given up.
	answerTimeout = 2 * time.Second
	// retryEvery is how often a server that cannot be reached is tried.
	retryEvery = time.Second
	// pingEvery is how often a server is asked whether it is there, and so the
	// time within which it is noticed that it does not tell of changes any more.
	pingEvery = 500 * time.Millisecond
)

// errURL says nothing of what it was given, which may hold a password.
var errURL = errors.New("the address of Redis must be redis://, rediss://, valkey:// or valkeys://[user:password@]host[:port][/db][?addr=host:port&…][&master_set=name]")

// Client is connections to a server, a Sentinel's master or a cluster. It
// connects when it is used, and again by itself. It is safe for use by several
// goroutines.
type Client struct {
	url     func() (string, error)
	prefix  string
	changed func(keys []string)

	mu     sync.Mutex
	client rueidis.Client
	tried  time.Time
	failed error
	closed bool
}

// Open returns a client for the address that url returns, which is asked again
// for each connection, so that a password that was changed is taken up. When a
// prefix is given, changed is called with the keys of that prefix that were
// changed by anybody, as soon as the server tells, and with none when any may
// have been. It must be fast.
func Open(url func() (string, error), prefix string, changed func(keys []string)) (*Client, error) {
	c := &Client{url: url, prefix: prefix, changed: changed}
	_, err := c.options()
	return c, err
}

// options are those of the connections.
func (c *Client) options() (rueidis.ClientOption, error) {
	address, err := c.url()
	if err != nil {
		return rueidis.ClientOption{}, err
	}
	o, err := rueidis.ParseURL(address)
	if err != nil || len(o.InitAddress) == 0 {
		return o, errURL
	}
	o.ClientName = "caddy-stale-session"
	o.Dialer.Timeout, o.Dialer.KeepAlive = dialTimeout, pingEvery
	o.ConnWriteTimeout = answerTimeout
	o.PipelineMultiplex = -1 // one connection to each server: what it tells of changes is in order with what it answers
	o.ReadBufferEachConn, o.WriteBufferEachConn, o.RingScaleEachConn = 64<<10, 64<<10, 9
	o.DisableRetry = true // who asks tries again, or not
	o.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
		if again, err := c.url(); err == nil {
			if changed, err := rueidis.ParseURL(again); err == nil {
				return rueidis.AuthCredentials{Username: changed.Username, Password: changed.Password}, nil
			}
		}
		return rueidis.AuthCredentials{Username: o.Username, Password: o.Password}, nil
	}
	if o.Sentinel.MasterSet != "" { // the Sentinels have the same user, and are asked again in case they could not tell
		o.Sentinel.Username, o.Sentinel.Password, o.Sentinel.TLSConfig, o.Sentinel.Dialer = o.Username, o.Password, o.TLSConfig, o.Dialer
		o.Sentinel.TopologyRefreshInterval = 5 * time.Second
	}
	if c.changed == nil {
		o.DisableCache = true
	} else {
		o.ClientTrackingOptions = []string{"BCAST", "PREFIX", c.prefix}
		o.OnInvalidations = c.invalidated
	}
	return o, nil
}

func (c *Client) invalidated(messages []rueidis.RedisMessage) {
	if messages == nil { // the connection broke, or everything was flushed
		c.changed(nil)
		return
	}
	keys := make([]string, 0, len(messages))
	for i := range messages {
		if key, err := messages[i].ToString(); err == nil {
			keys = append(keys, key)
		}
	}
	c.changed(keys)
}

// Get returns what sends commands. It connects where there is no connection,
// unless that was tried a moment ago.
func (c *Client) Get() (rueidis.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, rueidis.ErrClosing
	case c.client != nil:
		return c.client, nil
	case time.Since(c.tried) < retryEvery:
		return nil, c.failed
	}
	o, err := c.options()
	if err == nil {
		c.client, err = rueidis.NewClient(o)
	}
	c.tried, c.failed = time.Now(), err
	return c.client, err
}

// Watch returns once changes can be missed, which it finds out by asking every
// server now and then. It calls ready when none can be any more.
func (c *Client) Watch(ctx context.Context, ready func()) error {
	var servers []string
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		now, err := c.Servers(ctx)
		if err != nil {
			return err
		}
		if !slices.Equal(now, servers) { // keys may have moved to where nobody listened
			servers = now
			ready()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// Servers returns the servers, sorted, each of which has answered.
func (c *Client) Servers(ctx context.Context) ([]string, error) {
	client, err := c.Get()
	if err != nil {
		return nil, err
	}
	nodes := client.Nodes()
	for _, node := range nodes {
		if err := ping(ctx, node); err != nil {
			return nil, err
		}
	}
	return slices.Sorted(maps.Keys(nodes)), nil
}

func ping(ctx context.Context, node rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return node.Do(ctx, node.B().Ping().Build()).Error()
}

// Close ends the connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.client != nil {
		c.client.Close()
	}
}

// String names the server, without a user or a password.
func (c *Client) String() string {
	address, err := c.url()
	if err != nil {
		return "redis"
	}
	return Place(address)
}

// Place names the server of an address, without a user or a password.
func Place(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "redis"
	}
	name := "redis at " + u.Host
	if u.Scheme == "unix" {
		name = "redis at " + u.Path
	}
	if set := u.Query().Get("master_set"); set != "" {
		name += " (" + set + ")"
	}
	if db := strings.Trim(u.Path, "/"); db != "" && u.Scheme != "unix" {
		name += ", database " + db
	}
	return name
}

// Describe says what failed, and what to do about it. It never holds a
// password.
func Describe(err error) string {
	if failure, ok := rueidis.IsRedisErr(err); ok {
		kind, _, _ := strings.Cut(failure.Error(), " ")
		if text, known := answers[kind]; known {
			return text
		}
		return "Redis answered " + kind
	}
	var (
		certificate *tls.CertificateVerificationError
		network     net.Error
	)
	switch {
	case errors.Is(err, errURL):
		return err.Error()
	case errors.As(err, &certificate):
		return "the certificate of Redis is not trusted: its CA has to be one of the system's, or in the file that SSL_CERT_FILE names in Caddy's environment, and the address has to have a name of the certificate's"
	case errors.Is(err, rueidis.ErrNoCache):
		return "Redis does not tell of changes: it needs version 6 with RESP3"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.As(err, &network) && network.Timeout():
		return "Redis did not answer in time"
	}
	return "no connection to Redis"
}

// answers tells what to do about an error of Redis's, by its first word.
var answers = map[string]string{
	"NOAUTH":      "Redis wants a user and a password: put them into the address",
	"WRONGPASS":   "Redis does not accept the user or its password",
	"NOPERM":      "the user of Redis may not do that: ACL SETUSER … +@read +@connection +info +client, and the keys",
	"LOADING":     "Redis is loading its data",
	"MASTERDOWN":  "Redis is a replica that has lost its master",
	"READONLY":    "Redis is a replica: give the address of the master, or of the Sentinels with master_set",
	"OOM":         "Redis is out of memory",
	"CLUSTERDOWN": "a part of the Redis cluster is down",
	"BUSY":        "Redis is running a script",
	"WRONGTYPE":   "a key of Redis has another type than the configuration says",
	"MISCONF":     "Redis takes no writes, because it cannot save them",
}
