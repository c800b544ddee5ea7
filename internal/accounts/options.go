package accounts

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

// LookupOptions say how users are looked up, whatever the directory.
type LookupOptions struct {
	// How long and how many accounts are cached.
	Cache *Cache `json:"cache,omitempty"`

	// How often the database is asked whether anything has changed in it, from
	// 10ms to 10s, or `off`: a reset or a deleted user is noticed within that
	// time. Each poll costs the database one query of some microseconds, and
	// polling takes a connection. A database that should fall asleep when nobody
	// uses it needs `off`; then a change is noticed when cached accounts expire.
	// Default: 500ms.
	Poll string `json:"poll,omitempty"`

	// Ends no session while more users than this are gone at once. Default: no
	// limit.
	Brake *Brake `json:"brake,omitempty"`

	// How long a request waits for a lookup, at most. Default: 500ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`
}

// Cache says how accounts are cached.
type Cache struct {
	// How long an account is used without asking the database again. Subjects
	// without an account are remembered for 5s at most. Default: 30s.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// How many accounts are cached, about. Each takes some 120 bytes when it is
	// used, and what its token says as many again. Default: 100000.
	Size int `json:"size,omitempty"`
}

// Brake keeps sessions from ending by mistake: another database, an empty
// table, a restored snapshot. While it is on, stale sessions are logged and
// counted, and pass. It goes off when the users are back, and when the users
// table was recreated or emptied, which is a reset. It is on from the start until
// the first user was found.
type Brake struct {
	// The share of the users seen in Window that can be gone at once, as a
	// percentage such as `50%`. It takes ten users to count.
	Share string `json:"share,omitempty"`

	// How far back users count as seen. Default: 1m.
	Window caddy.Duration `json:"window,omitempty"`
}

// Options are the options in a Caddyfile.
func (o *LookupOptions) Options() directive.Options {
	return directive.Options{
		"cache":   directive.Nested(&o.Cache),
		"poll":    directive.Text(&o.Poll),
		"brake":   directive.Nested(&o.Brake),
		"timeout": directive.Duration(&o.Timeout),
	}
}

// UnmarshalCaddyfile reads the block of `cache`.
func (c *Cache) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return directive.Block(d, "cache", directive.Options{
		"ttl": directive.Duration(&c.TTL),
		"size": func(d *caddyfile.Dispenser) error {
			var size string
			if err := directive.Text(&size)(d); err != nil {
				return err
			}
			n, err := strconv.Atoi(size)
			if err != nil || n <= 0 {
				return d.Errf("size is %q; it must be a number above 0", size)
			}
			c.Size = n
			return nil
		},
	})
}

// UnmarshalCaddyfile reads the arguments of `brake`.
func (b *Brake) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if !d.Args(&b.Share) {
		return d.ArgErr()
	}
	if d.CountRemainingArgs() == 0 {
		return nil
	}
	return directive.Duration(&b.Window)(d)
}

// Config returns the options as an engine takes them.
func (o LookupOptions) Config() (Config, error) {
	c := Config{Timeout: time.Duration(o.Timeout)}
	if o.Cache != nil {
		c.TTL, c.Size = time.Duration(o.Cache.TTL), o.Cache.Size
	}
	if c.Timeout < 0 || c.TTL < 0 || c.Size < 0 {
		return c, errors.New("timeout, and ttl and size of cache, must not be negative")
	}
	var err error
	if c.Poll, err = readPoll(o.Poll); err != nil {
		return c, err
	}
	if o.Brake != nil {
		c.BrakeWindow = cmp.Or(time.Duration(o.Brake.Window), time.Minute)
		c.BrakeShare, err = readShare(o.Brake.Share)
	}
	return c, err
}

// Bounds of LookupOptions.Poll.
const (
	minPoll = 10 * time.Millisecond
	maxPoll = 10 * time.Second
)

// readPoll reads a poll interval: below 0 for off, 0 for the default.
func readPoll(text string) (time.Duration, error) {
	switch text {
	case "":
		return 0, nil
	case "off":
		return -1, nil
	}
	poll, err := caddy.ParseDuration(text)
	if err != nil || poll < minPoll || poll > maxPoll {
		return 0, fmt.Errorf("poll is %q; it can be a time from %s to %s, or off", text, minPoll, maxPoll)
	}
	return poll, nil
}

// readShare reads a percentage.
func readShare(text string) (float64, error) {
	number, isPercentage := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if err != nil || !isPercentage || !(percent > 0 && percent <= 100) {
		return 0, fmt.Errorf("the share of brake is %q; it can be a percentage above 0, such as 50%%", text)
	}
	return percent / 100, nil
}

// Config says how an engine works. The zero value stands for the defaults.
type Config struct {
	// Timeout is how long a request waits for a lookup. Default: 500ms.
	Timeout time.Duration
	// TTL and AbsentTTL are how long an account and the absence of one are used
	// without a lookup. Defaults: 30s, 5s.
	TTL, AbsentTTL time.Duration
	// Size is how many accounts are cached, about. Default: DefaultSize.
	Size int
	// Poll is how often the directory is asked whether anything has changed.
	// Default: 500ms; negative for never, and then it is not watched at all.
	Poll time.Duration
	// BrakeShare is the share of the users seen in BrakeWindow that can be gone
	// at once; if more are, Braking reports true. 0 for no limit.
	BrakeShare  float64
	BrakeWindow time.Duration
	// Passing tells that no handler in use asks: what is under way is not judged again
	// for the end of the engine, which would open the next one.
	Passing bool
	// Observer is notified of lookups and events; nil for none.
	Observer Observer `json:"-"`
	// Streams are what is under way of subjects; nil for none.
	Streams Streams `json:"-"`
	// Logger returns the logger. It is called for each line, because an engine
	// outlives the configuration that opened it. Default: no log.
	Logger func() *zap.Logger `json:"-"`
}

// DefaultSize is that of Config.
const DefaultSize = 100_000

// DefaultTimeout is that of Config. Tests, which run on slow machines, set it.
var DefaultTimeout = 500 * time.Millisecond

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.TTL = cmp.Or(c.TTL, 30*time.Second)
	c.AbsentTTL = min(cmp.Or(c.AbsentTTL, 5*time.Second), c.TTL)
	c.Size = cmp.Or(c.Size, DefaultSize)
	c.Poll = cmp.Or(c.Poll, 500*time.Millisecond)
	if c.Logger == nil {
		c.Logger = zap.NewNop
	}
	return c
}

// ForAMoment returns the configuration of an engine that no handler in use asks. Nobody
// would judge again by it what it learns later, so it watches nothing, and looks every
// account up that it is asked for.
func (c Config) ForAMoment() Config {
	c.Passing, c.Poll, c.TTL = true, -1, 1
	return c
}
