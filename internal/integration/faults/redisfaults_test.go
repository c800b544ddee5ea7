package faults

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/faultproxy"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestNoFaultOfRedisEndsASession asks for users who are there while what is
// between Caddy and Redis is slow, swallows everything, or breaks off.
func TestNoFaultOfRedisEndsASession(t *testing.T) {
	standardapp.Environment(t, "")
	redis, err := redistest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Close() })
	for _, subject := range []string{"live", "other"} {
		if _, err := redis.Do(t.Context(), "SET", "user:"+subject, `{"id":"`+subject+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	p := faultproxy.New(t, redis.Address())
	t.Setenv("REDIS_URL", "redis://"+p.Address)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	directory redis", "	cache {", "		ttl 1s", "	}", "}", caddytest.NewApp(t).Proxy()))
	live, other, gone := standardapp.Session(t, "live"), standardapp.Session(t, "other"), standardapp.Session(t, "gone")
	if status := caddytest.Ask(t, base, live); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for name, f := range map[string]faultproxy.Fault{"slow": faultproxy.Slow, "a hole": faultproxy.Hole, "resets": faultproxy.Reset} {
		t.Run(name, func(t *testing.T) {
			p.Set(f)
			began := time.Now()
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for time.Since(began) < 1500*time.Millisecond { // longer than accounts are used
						for _, cookie := range []string{live, other} {
							if status := caddytest.Ask(t, base, cookie); status != http.StatusOK {
								t.Errorf("status %d", status)
								return
							}
						}
					}
				})
			}
			all.Wait()
			p.Set(faultproxy.None)
			eventually.Holds(t, "it is back", func() bool { return caddytest.Ask(t, base, gone) == http.StatusUnauthorized })
			if status := caddytest.Ask(t, base, live); status != http.StatusOK {
				t.Errorf("afterwards: status %d", status)
			}
		})
	}
}

// TestRevocationsOutliveATakeover has a Sentinel let a replica take over that
// has the revocations, or lacks the last of them.
func TestRevocationsOutliveATakeover(t *testing.T) {
	standardapp.NewDatabase(t)
	master, err := redistest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	replica, err := master.Replica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = replica.Close() })
	sentinel, err := master.Sentinel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sentinel.Close() })
	eventually.Holds(t, "the Sentinel knows the replica", func() bool {
		text, err := sentinel.Do(t.Context(), "SENTINEL", "REPLICAS", "users")
		return err == nil && len(text) > 10
	})
	t.Setenv("REDIS_URL", sentinel.URL()+"?master_set=users")
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, o.Config("stale_session {", "	revocations {", "		redis {env.REDIS_URL}", "	}", "}", caddytest.NewApp(t).Proxy()))
	before := standardapp.TokenOf(t, "live", time.Minute)
	if status := caddytest.Ask(t, base, before); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if text := o.Do("POST", "revoke", caddytest.Object{"subject": "live"}, nil); text != `{"subject":"live"}`+"\n" {
		t.Fatal(text)
	}
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	if status := caddytest.Ask(t, base, before); status != http.StatusUnauthorized {
		t.Errorf("while no master is there: status %d", status)
	}
	eventually.Holds(t, "the new master has it", func() bool {
		text, err := replica.Do(t.Context(), "DBSIZE")
		role, err2 := replica.Do(t.Context(), "ROLE")
		return err == nil && err2 == nil && text != ":0\r\n" && len(role) > 15 && role[8:14] == "master"
	})
	eventually.Holds(t, "others can be revoked", func() bool {
		return o.Do("POST", "revoke", caddytest.Object{"subject": "next", "force": true}, nil) == `{"subject":"next"}`+"\n"
	})
	if status := caddytest.Ask(t, base, before); status != http.StatusUnauthorized {
		t.Errorf("afterwards: status %d", status)
	}
}
