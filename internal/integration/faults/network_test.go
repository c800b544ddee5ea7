package faults

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/faultproxy"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestNoFaultOfTheNetworkEndsASession has faults between Caddy and the
// database under load.
func TestNoFaultOfTheNetworkEndsASession(t *testing.T) {
	pg := pgtest.StartFor(t)
	if err := pg.Exec(t.Context(), "postgres", `create table "User" (id text primary key)`, `insert into "User" values ('live'), ('quiet')`,
		`create role app login`, `grant select on "User" to app`); err != nil {
		t.Fatal(err)
	}
	p := faultproxy.New(t, pg.Address())
	standardapp.Environment(t, "postgres://app@"+p.Address+"/postgres?sslmode=disable")
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	cache {", "		ttl 50ms", "	}", "	poll 50ms", "	timeout 1s", "}", app.Proxy()))

	set := func(f faultproxy.Fault) func() error {
		return func() error { p.Set(f); return nil }
	}
	limit := func(n int) func() error {
		return func() error {
			return pg.Exec(context.Background(), "postgres", fmt.Sprintf(`alter role app connection limit %d`, n),
				`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'`)
		}
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-36s %9s %6s %12s\n", "", "requests", "ended", "longest wait")
	for _, c := range []struct {
		what        string
		fault, over func() error
	}{
		{"connections refused", func() error { p.Refuse(); return nil }, func() error { p.Listen(); return nil }},
		{"slow answers", set(faultproxy.Slow), set(faultproxy.None)},
		{"a black hole", set(faultproxy.Hole), func() error {
			p.Refuse() // as connections in it never end by themselves
			p.Set(faultproxy.None)
			p.Listen()
			return nil
		}},
		{"resets in the middle of an answer", set(faultproxy.Reset), set(faultproxy.None)},
		{"too many connections (53300)", limit(0), limit(-1)},
	} {
		l := startLoad(t, base)
		l.enough = 120
		l.during("all is well", func() error { return nil })
		eventually.Holds(t, "the stale session is refused before "+c.what, func() bool { return l.stale.Load() > 0 || t.Failed() })
		l.during(c.what, c.fault)
		l.during(c.what+", for a while", func() error { return nil })
		l.during(c.what+" is over", c.over)
		refused := l.stale.Load()
		eventually.Holds(t, "the stale session is refused after "+c.what, func() bool { return l.stale.Load() > refused || t.Failed() })
		l.end()
		fmt.Fprintf(&table, "%-36s %9d %6d %12s\n", c.what, l.live.Load(), l.ended.Load(), time.Duration(l.longest.Load()).Round(time.Millisecond))
	}
	t.Log("\n" + table.String())
}

// TestOnceAFaultIsKnownNobodyWaits has a timeout that would make itself felt:
// two hundred requests that each waited for it would take a quarter of an
// hour.
func TestOnceAFaultIsKnownNobodyWaits(t *testing.T) {
	p := faultproxy.New(t, standardapp.Server.Address())
	dsn := standardapp.Server.DSN(standardapp.NewDatabase(t))
	standardapp.Environment(t, strings.Replace(dsn, standardapp.Server.Address(), p.Address, 1))
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	cache {", "		ttl 10ms", "	}", "	timeout 5s", "}", app.Proxy()))
	live := standardapp.Session(t, "live")
	if status := caddytest.Ask(t, base, live); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	p.Set(faultproxy.Hole)
	// The first ones wait, and find out.
	for i := range 4 {
		if status := caddytest.Ask(t, base, standardapp.Session(t, fmt.Sprintf("first %d", i))); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range 200 {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, base, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Cookie", standardapp.Session(t, fmt.Sprintf("later %d", i)))
		response, err := caddytest.Client.Do(request)
		if err != nil {
			t.Fatalf("after %d requests: %v", i, err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("status %d", response.StatusCode)
		}
	}
}
