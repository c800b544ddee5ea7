package faults

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/faultproxy"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// The sites in which Redis is used.
const (
	sharedSite = "revocations in Redis"
	usersSite  = "users in Redis"
)

// The passwords of Caddy's user of Redis.
const (
	firstPassword  = "s3cret-the-first"
	secondPassword = "s3cret-the-second"
)

// cacheBeside is a Redis, and what is between it and Caddy. Caddy's user has no
// more rights than the documentation says.
type cacheBeside struct {
	*redistest.Server
	network *faultproxy.Proxy
	url     string // the file that the address is in
}

func newCacheBeside(t *testing.T, rights string, settings ...string) *cacheBeside {
	s, err := redistest.Start(t.Context(), append(settings, "user caddy on >"+firstPassword+" resetchannels -@all "+rights)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c := &cacheBeside{Server: s, network: faultproxy.New(t, s.Address()), url: filepath.Join(t.TempDir(), "url")}
	if err := c.address(firstPassword); err != nil {
		t.Fatal(err)
	}
	return c
}

// address tells Caddy where Redis is.
func (c *cacheBeside) address(password string) error {
	return os.WriteFile(c.url, []byte("redis://caddy:"+password+"@"+c.network.Address), 0o600)
}

// do sends commands, one a line; words have no spaces.
func (c *cacheBeside) do(commands ...string) error {
	for _, command := range commands {
		if answer, err := c.Do(context.Background(), strings.Fields(command)...); err != nil || strings.HasPrefix(answer, "-") {
			return fmt.Errorf("%s: %w %s", command, err, answer)
		}
	}
	return nil
}

// redisSites starts what the rows about Redis need besides.
func (b *bench) redisSites() {
	b.shared = newCacheBeside(b.t, "~stale_session:revoked:* +get +set +pttl +scan +ping +hello +client")
	b.users = newCacheBeside(b.t, "~user:* +get +hgetall +info +ping +hello +client", "appendonly yes", "appendfsync always")
	if err := b.users.do(usersInRedis...); err != nil {
		b.t.Fatal(err)
	}
	b.revocations = []string{"	revocations {", "		redis {file." + b.shared.url + "}", "		name matrix", "	}"}
	redis := "directory redis {\n\t\t\turl {file." + b.users.url + "}\n\t\t}"
	from, to := strings.Index(b.site, "poll 50ms"), strings.Index(b.site, "cache {")
	own := b.site[from:to]
	asking := strings.Replace(b.site, "ttl 50ms", "ttl 1ms", 1) // nearly each request asks
	b.sites = map[string]string{
		"":         b.site,
		sharedSite: strings.Replace(b.site, "poll 50ms", strings.Join(b.revocations, "\n\t")+"\n\t\tpoll 50ms", 1),
		usersSite:  strings.Replace(asking, own, redis+"\n\t\ttimeout 500ms\n\t\t", 1),
	}
}

var usersInRedis = []string{`SET user:live {"id":"live"}`, `SET user:quiet {"id":"quiet"}`}

// use loads the site of a row.
func (b *bench) use(row faultRow) {
	site := b.sites[row.site]
	if row.stale == refused && !row.waits {
		site = strings.Replace(site, "timeout 500ms", "timeout 30s", 1)
	}
	if site == b.loaded {
		return
	}
	if err := caddytest.Load(site); err != nil {
		b.t.Fatal(err)
	}
	b.loaded = site
}

// saw notes something for the table.
func (b *bench) saw(format string, args ...any) {
	b.noted = append(b.noted, fmt.Sprintf(format, args...))
}

// onBoth tells whether this node and another one answer a session so.
func (b *bench) onBoth(cookie string, status int) bool {
	return caddytest.Answered(b.t, b.base+"/admin", cookie) == status && caddytest.Answered(b.t, b.other.base+"/admin", cookie) == status
}

// unshared tells whether the status of a node says that revocations are not
// shared.
func unshared(o *caddytest.Operator) bool {
	var status struct{ Databases []struct{ Unshared bool } }
	o.Do(http.MethodGet, "status", nil, &status)
	return len(status.Databases) == 1 && status.Databases[0].Unshared
}

// What the log says, every 30 seconds, of a Redis that cannot be read, and of
// one that can.
const (
	notHeard = "cannot read revocations of other nodes"
	notTold  = "cannot share revocations with other nodes yet"
)

// What is said of a Redis that takes no writes.
const (
	noMemory  = "Redis is out of memory"
	isReplica = "Redis is a replica"
)

// perhaps is what a revocation is answered that may or may not reach Redis.
const perhaps = "perhaps"

// share makes a fault of the Redis of revocations, between a session that is
// revoked before and one that is revoked meanwhile. Says is what the latter is
// answered, empty for success.
func share(says string, fault func(*bench) error) func(*bench) error {
	return func(b *bench) error {
		if b.other == nil {
			b.other = startNode(b.whole, b.app, []string{"DATABASE_URL=" + b.postgres.DSN("postgres")},
				slices.Concat([]string{"stale_session {"}, b.revocations, []string{"}"})...)
		}
		eventually.Holds(b.t, "revocations are shared", func() bool { return !unshared(b.operator) && !unshared(&b.other.Operator) })
		early, quiet := standardapp.Session(b.t, "early"), standardapp.Session(b.t, "quiet")
		b.early, b.quiet = early, quiet
		if err := b.revokes("early", `{"subject":"early"}`); err != nil {
			return err
		}
		eventually.Holds(b.t, "both nodes refuse what was revoked before", func() bool { return b.onBoth(early, http.StatusUnauthorized) })
		if err := fault(b); err != nil {
			return err
		}
		switch says {
		case "":
			b.saw("`revoke` succeeds")
			return b.revokes("quiet", `{"subject":"quiet"}`)
		case perhaps: // its answer may be in the first half
			said := b.operator.Do(http.MethodPost, "revoke", caddytest.Object{"subject": "quiet", "force": true}, nil)
			if !strings.Contains(said, `{"subject":"quiet"}`) && !strings.Contains(said, "not yet on the others: ") || caddytest.Answered(b.t, b.base+"/admin", quiet) == http.StatusOK {
				return fmt.Errorf("revoking says %s", said)
			}
			return nil
		}
		if err := b.revokes("quiet", "not yet on the others: "+says); err != nil {
			return err
		}
		b.saw("`revoke` and `status` report: %s", says)
		eventually.Holds(b.t, "the status says so", func() bool { return unshared(b.operator) })
		logged := notHeard
		if says == noMemory || says == isReplica {
			logged = notTold
		}
		eventually.Holds(b.t, "the log says so", func() bool { return strings.Contains(b.log.Text(b.t), logged) })
		if status := caddytest.Answered(b.t, b.other.base+"/admin", quiet); status != http.StatusOK {
			return fmt.Errorf("another node knows: it answers %d", status)
		}
		return nil
	}
}

// shared ends a fault, and looks at who knows what.
func shared(over func(*bench) error) func(*bench) error {
	return func(b *bench) error {
		early, quiet := b.early, b.quiet
		b.early, b.quiet = "", ""
		began := time.Now()
		if err := over(b); err != nil {
			return err
		}
		eventually.Holds(b.t, "both nodes refuse what was revoked meanwhile", func() bool { return b.onBoth(quiet, http.StatusUnauthorized) })
		b.saw("known on all nodes %s after the end", time.Since(began).Round(time.Millisecond))
		eventually.Holds(b.t, "Redis has both", func() bool {
			text, err := b.shared.Do(context.Background(), "KEYS", "stale_session:revoked:*:s*")
			return err == nil && strings.Contains(text, ":searly\r\n") && strings.Contains(text, ":squiet\r\n")
		})
		eventually.Holds(b.t, "the status is well again", func() bool { return !unshared(b.operator) && !unshared(&b.other.Operator) })
		if !b.onBoth(early, http.StatusUnauthorized) {
			return fmt.Errorf("what was revoked before is forgotten")
		}
		for _, subject := range []string{"early", "quiet"} {
			b.operator.Do(http.MethodPost, "restore", map[string]string{"subject": subject}, nil)
		}
		eventually.Holds(b.t, "both are restored everywhere", func() bool { return b.onBoth(early, http.StatusOK) && b.onBoth(quiet, http.StatusOK) })
		return nil
	}
}

// How a Redis can fail, by whose it is. Of each, begin and end.
type redisFault struct{ begin, end func(*cacheBeside) error }

func commands(commands ...string) func(*cacheBeside) error {
	return func(c *cacheBeside) error { return c.do(commands...) }
}

func setRedis(f faultproxy.Fault) func(*cacheBeside) error {
	return func(c *cacheBeside) error { c.network.Set(f); return nil }
}

var redisFaults = map[string]redisFault{
	"kill":  {(*cacheBeside).kill, func(c *cacheBeside) error { return c.Restart(context.Background()) }},
	"pause": {func(c *cacheBeside) error { return c.Pause() }, func(c *cacheBeside) error { return c.Resume() }},
	"refuse": {
		func(c *cacheBeside) error { c.network.Refuse(); return nil },
		func(c *cacheBeside) error { c.network.Listen(); return nil },
	},
	"slow":  {setRedis(faultproxy.Slow), setRedis(faultproxy.None)},
	"reset": {setRedis(faultproxy.Reset), setRedis(faultproxy.None)},
	"wrong": {setRedis(faultproxy.Wrong), setRedis(faultproxy.None)},
	"password": {
		commands("ACL SETUSER caddy resetpass >"+secondPassword, "CLIENT KILL USER caddy"),
		func(c *cacheBeside) error { return c.address(secondPassword) },
	},
	"memory":  {commands("CONFIG SET maxmemory 1"), commands("CONFIG SET maxmemory 0")},
	"replica": {commands("REPLICAOF 127.0.0.1 1"), commands("REPLICAOF NO ONE")},
	"evicts":  {commands("CONFIG SET maxmemory 100mb maxmemory-policy allkeys-lru"), commands("CONFIG SET maxmemory 0 maxmemory-policy noeviction")},
	"emptied": {commands("FLUSHALL"), commands()},
}

func (c *cacheBeside) kill() error { return c.Kill() }

// of makes a fault one of the Redis of revocations, or of that of users.
func of(which func(*bench) *cacheBeside, fault func(*cacheBeside) error) func(*bench) error {
	return func(b *bench) error { return fault(which(b)) }
}

func ofShared(b *bench) *cacheBeside { return b.shared }
func ofUsers(b *bench) *cacheBeside  { return b.users }

// sharedRow is a row about the Redis of revocations.
func sharedRow(name, fault, what, says string) faultRow {
	f := redisFaults[fault]
	begin := of(ofShared, f.begin)
	if fault == "password" { // at first there is no connection
		begin = func(b *bench) error {
			err := f.begin(b.shared)
			eventually.Holds(b.t, "the cause is told", func() bool { return b.revokes("somebody", says) == nil })
			return err
		}
	}
	also := "one revoked during the fault is refused on this node at once, and on all nodes after it"
	if says == "" {
		also = "one revoked during the fault is refused on all nodes"
	}
	return faultRow{
		part: sharedSite, site: sharedSite, fault: name, what: what, stale: refused, also: also,
		begin: share(says, begin), end: shared(of(ofShared, f.end)),
	}
}

// usersRow is a row about the Redis of users.
func usersRow(name, fault, what, stale string) faultRow {
	f := redisFaults[fault]
	return faultRow{part: usersSite, site: usersSite, fault: name, what: what, stale: stale, end: of(ofUsers, f.end), begin: func(b *bench) error {
		eventually.Holds(b.t, "nothing is away any more", func() bool {
			var status struct{ Databases []struct{ Health string } }
			b.operator.Do(http.MethodGet, "status", nil, &status)
			return len(status.Databases) == 1 && status.Databases[0].Health == "ok"
		})
		return f.begin(b.users)
	}}
}

// passwordAgain gives Caddy's user its first password again, after a row.
func passwordAgain(row faultRow, which func(*bench) *cacheBeside) faultRow {
	row.after = func(b *bench) error {
		c := which(b)
		if err := c.do("ACL SETUSER caddy resetpass >" + firstPassword); err != nil {
			return err
		}
		return c.address(firstPassword)
	}
	return row
}

// garbled makes something else of the live user.
func garbled(name, what string, commands ...string) faultRow {
	return faultRow{
		part: usersSite, site: usersSite, fault: name, what: what, stale: refused,
		begin: func(b *bench) error { return b.users.do(commands...) },
		end:   func(b *bench) error { return b.users.do(usersInRedis...) },
	}
}

var redisRows = slices.Concat([]faultRow{
	sharedRow("kill", "kill", "the server crashes and restarts empty", "no connection to Redis"),
	sharedRow("pause", "pause", "the server is stopped (SIGSTOP)", "Redis did not answer in time"),
	sharedRow("refuse", "refuse", "connections are refused", "no connection to Redis"),
	sharedRow("slow", "slow", "each answer takes 100 ms longer", ""),
	sharedRow("reset", "reset", "connections are reset in the middle of an answer", perhaps),
	sharedRow("wrong answer", "wrong", "something other than Redis answers", "no connection to Redis"),
	passwordAgain(sharedRow("password", "password", "its password is changed and all connections are closed; ends when Caddy's secret file has the new one", "Redis does not accept"), ofShared),
	sharedRow("out of memory", "memory", "`maxmemory` is used up (noeviction)", noMemory),
	sharedRow("read-only", "replica", "it becomes a replica", isReplica),
	sharedRow("emptied", "emptied", "FLUSHALL", ""),
	{
		part: sharedSite, site: sharedSite, fault: "garbage", what: "keys of revocations hold lists, hashes, garbage and times far ahead", stale: refused,
		also: "one revoked during the fault is refused on all nodes",
		begin: share(perhaps, func(b *bench) error { // all connections are ended a moment before
			answer, err := b.shared.Do(context.Background(), "KEYS", "stale_session:revoked:*:searly")
			_, key, _ := strings.Cut(answer, "stale_session:")
			prefix := "stale_session:" + strings.TrimSuffix(key, "early\r\n")
			if err != nil || prefix == "stale_session:" {
				return fmt.Errorf("%w: %s", err, answer)
			}
			return b.shared.do("RPUSH "+prefix+"list x", "HSET "+prefix+"hash x y", "SET "+prefix+"text x", "SET "+prefix+"number "+strings.Repeat("9", 30),
				"SET "+prefix+"live 99999999999999999", "CLIENT KILL USER caddy")
		}),
		end: shared(func(*bench) error { return nil }),
	},
	{
		part: sharedSite, site: sharedSite, fault: "at a start", what: "a handler that knows no revocation yet starts while the server is stopped", stale: refused, waits: true,
		begin: func(b *bench) error {
			if err := b.shared.Pause(); err != nil {
				return err
			}
			return caddytest.Load(strings.Replace(b.sites[sharedSite], "name matrix", "name another", 1))
		},
		end: func(b *bench) error {
			eventually.Holds(b.t, "the status says so", func() bool { return unshared(b.operator) })
			if err := b.shared.Resume(); err != nil {
				return err
			}
			eventually.Holds(b.t, "the status is well again", func() bool { return !unshared(b.operator) })
			return caddytest.Load(b.loaded)
		},
	},
	usersRow("kill", "kill", "the server crashes", either),
	usersRow("pause", "pause", "the server is stopped (SIGSTOP)", either),
	usersRow("refuse", "refuse", "connections are refused", either),
	usersRow("slow", "slow", "each answer takes 100 ms longer; a missing user takes four", either),
	usersRow("reset", "reset", "connections are reset in the middle of an answer", either),
	usersRow("wrong answer", "wrong", "something other than Redis answers", either),
	passwordAgain(usersRow("password", "password", "its password is changed and all connections are closed; ends when Caddy's secret file has the new one", either), ofUsers),
	usersRow("out of memory", "memory", "`maxmemory` is used up (noeviction)", refused),
	usersRow("read-only", "replica", "it becomes a replica", either),
	usersRow("evicts", "evicts", "it may evict keys (`maxmemory`, allkeys-lru)", either),
	garbled("another type", "the user's key holds a list", "RPUSH other x", "RENAME other user:live"),
	garbled("garbage", "the user's JSON is truncated", `SET user:live {"id":"li`),
	{
		part: usersSite, site: usersSite, fault: "emptied", what: "FLUSHALL: its users are gone, like TRUNCATE in Postgres", stale: refused, appStatus: http.StatusUnauthorized,
		begin: func(b *bench) error {
			live := standardapp.Session(b.t, "live")
			err := b.users.do("FLUSHALL")
			eventually.Holds(b.t, "it is noticed", func() bool { return caddytest.Answered(b.t, b.base+"/admin", live) == http.StatusUnauthorized })
			return err
		},
		end: func(b *bench) error { return b.users.do(usersInRedis...) },
	},
})

// checkLog looks at what the log says of the faults of Redis, all told.
func checkLog(t *testing.T, log string) {
	if says := "user lookup failed"; !strings.Contains(log, says) {
		t.Errorf("the log does not say %q", says)
	}
	for _, password := range []string{firstPassword, secondPassword} {
		if strings.Contains(log, password) {
			t.Error("the log holds a password of Redis")
		}
	}
}
