// Package redis looks users up in Redis or Valkey, and has the client for other
// packages that use it.
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

	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
	"github.com/seed-4adef13c/caddy-stale-session/internal/location"
)

const (
	// retryPeriod is how often a server that is down is tried.
	retryPeriod = time.Second
	// pingPeriod is how often servers are pinged, to notice a lost connection: no
	// changes arrive on it.
	pingPeriod = 500 * time.Millisecond
)

// Errors of an address. They do not quote it, because any part may be a password.
var (
	errURL    = errors.New("the address of Redis must be redis://, rediss://, valkey:// or valkeys://[user:password@]host[:port][/db][?addr=host:port&…][&master_set=name]")
	errEscape = errors.New("the address of Redis must be redis://user:password@host:port, with the characters /, ?, #, @ and : of the password percent-encoded (%2F, %3F, %23, %40, %3A)")
)

// Client connects to a server, the master of Sentinels or a cluster: at its first
// use, and again when a connection is lost. It is safe for concurrent use.
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

// Open returns a client for the address that url returns, without connecting. It
// calls url for each connection, to use a rotated password. The only error is an
// invalid address.
//
// If changed is not nil, the server reports changes of keys with the prefix, and
// the client calls changed with these keys, or with nil when any key may have
// changed. It must return fast.
func Open(url func() (string, error), prefix string, changed func(keys []string)) (*Client, error) {
	c := &Client{url: url, prefix: prefix, changed: changed}
	_, err := c.options()
	return c, err
}

func (c *Client) options() (rueidis.ClientOption, error) {
	address, err := c.url()
	if err != nil {
		return rueidis.ClientOption{}, err
	}
	o, _, err := parse(address)
	if err != nil {
		return o, err
	}
	o.ClientName = "caddy-stale-session"
	o.Dialer.Timeout, o.Dialer.KeepAlive = deadline.Connect, pingPeriod
	o.ConnWriteTimeout = deadline.Query // a server that has not answered by then loses its connection
	o.PipelineMultiplex = -1            // one connection to each server, so that changes are in order with answers
	o.ReadBufferEachConn, o.WriteBufferEachConn, o.RingScaleEachConn = 64<<10, 64<<10, 9
	o.DisableRetry = true // callers retry
	o.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
		if address, err := c.url(); err == nil {
			if current, _, err := parse(address); err == nil {
				return rueidis.AuthCredentials{Username: current.Username, Password: current.Password}, nil
			}
		}
		return rueidis.AuthCredentials{Username: o.Username, Password: o.Password}, nil
	}
	if o.Sentinel.MasterSet != "" {
		o.Sentinel.Username, o.Sentinel.Password, o.Sentinel.TLSConfig, o.Sentinel.Dialer = o.Username, o.Password, o.TLSConfig, o.Dialer
		o.Sentinel.TopologyRefreshInterval = 5 * time.Second // a failover may not be published
	}
	if c.changed == nil {
		o.DisableCache = true
	} else {
		o.ClientTrackingOptions = []string{"BCAST", "PREFIX", c.prefix}
		o.OnInvalidations = c.invalidate
	}
	return o, nil
}

// parse parses an address. It returns the options of a client, and what names the
// server, without a user or password.
func parse(address string) (o rueidis.ClientOption, name string, err error) {
	if location.Torn(address) {
		return o, "", errEscape
	}
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" {
		return o, "", errURL
	}
	if o, err = rueidis.ParseURL(address); err != nil {
		return rueidis.ClientOption{}, "", errURL
	}
	if host := u.Hostname(); host != "" && !location.ValidHost(host) || strings.ContainsAny(u.User.Username(), ",=") { // as in host,password=…
		return rueidis.ClientOption{}, "", errEscape
	}
	name = "redis at " + u.Host
	if u.Scheme == "unix" {
		return o, "redis at " + u.Path, nil
	}
	if set := u.Query().Get("master_set"); set != "" {
		name += " (" + set + ")"
	}
	if db := strings.Trim(u.Path, "/"); db != "" {
		name += ", database " + db
	}
	return o, name, nil
}

func (c *Client) invalidate(messages []rueidis.RedisMessage) {
	if messages == nil { // after FLUSHALL or a lost connection
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

// Get returns the underlying client, and connects if there is none. For a
// retryPeriod after a failure, it returns the same error.
func (c *Client) Get() (rueidis.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, rueidis.ErrClosing
	case c.client != nil:
		return c.client, nil
	case time.Since(c.tried) < retryPeriod:
		return nil, c.failed
	}
	o, err := c.options()
	if err == nil {
		c.client, err = rueidis.NewClient(o)
	}
	c.tried, c.failed = time.Now(), err
	return c.client, err
}

// Watch pings all servers until ctx is done or one does not answer, and then
// returns the error: changes may have been missed. It calls ready once all answer,
// and whenever their set has changed.
func (c *Client) Watch(ctx context.Context, ready func()) error {
	var servers []string
	ticker := time.NewTicker(pingPeriod)
	defer ticker.Stop()
	for {
		now, err := c.Servers(ctx)
		if err != nil {
			return err
		}
		if !slices.Equal(now, servers) { // keys may have moved to a new server
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

// Servers pings all servers, and returns their addresses, sorted.
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

// swaps returns how often each server has exchanged its databases, because SWAPDB
// reports no key as changed.
func (c *Client) swaps(ctx context.Context) (string, error) {
	client, err := c.Get()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, deadline.Query)
	defer cancel()
	nodes := client.Nodes()
	var all []string
	for _, address := range slices.Sorted(maps.Keys(nodes)) {
		node := nodes[address]
		stats, err := node.Do(ctx, node.B().Info().Section("commandstats").Build()).ToString()
		if _, refused := rueidis.IsRedisErr(err); err != nil && !refused {
			return "", err
		}
		_, swaps, _ := strings.Cut(stats, "cmdstat_swapdb:calls=")
		swaps, _, _ = strings.Cut(swaps, ",")
		all = append(all, swaps)
	}
	return strings.Join(all, " "), nil
}

func ping(ctx context.Context, node rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, deadline.Query)
	defer cancel()
	return node.Do(ctx, node.B().Ping().Build()).Error()
}

// Close closes the connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.client != nil {
		c.client.Close()
	}
}

// String names the server, without a user or password.
func (c *Client) String() string {
	address, err := c.url()
	if err != nil {
		return "redis"
	}
	_, name, err := parse(address)
	if err != nil {
		return "redis"
	}
	return name
}

// Describe returns what failed and what to do. It never holds a password.
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
	case errors.Is(err, errURL), errors.Is(err, errEscape):
		return err.Error()
	case errors.As(err, &certificate):
		return "the certificate of Redis is not trusted: it must be for the host in the address, and its CA must be trusted by the system or in the file that SSL_CERT_FILE names in Caddy's environment"
	case errors.Is(err, rueidis.ErrNoCache):
		return "Redis does not report changes: use Redis 6 or later, with RESP3"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.As(err, &network) && network.Timeout():
		return "Redis did not answer in time"
	}
	return "no connection to Redis"
}

// answers has what to do about an error of Redis, by its first word.
var answers = map[string]string{
	"NOAUTH":      "Redis needs a password: add the user and the password to the address",
	"WRONGPASS":   "Redis does not accept the user or the password",
	"NOPERM":      "the user of Redis lacks a right: `directory redis` needs its keys with +get +hgetall +info, `revocations` needs ~stale_session:revoked:* with +get +set +pttl +scan, both need +ping +hello +client",
	"LOADING":     "Redis is loading its data",
	"MASTERDOWN":  "Redis is a replica that has lost its master",
	"READONLY":    "Redis is a replica: use the address of the master, or of the Sentinels with master_set",
	"OOM":         "Redis is out of memory",
	"CLUSTERDOWN": "part of the Redis cluster is down",
	"BUSY":        "Redis is running a script",
	"WRONGTYPE":   "a key in Redis has an unexpected type: check `key`",
	"MISCONF":     "Redis rejects writes, because it cannot save to disk",
}
