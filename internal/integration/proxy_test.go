package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/ports"
)

// fault is what a proxy does to the connections through it.
type fault int32

const (
	none  fault = iota
	slow        // each piece of an answer comes late
	hole        // nothing comes any more, on old connections and new ones
	reset       // connections are reset in the middle of an answer
	wrong       // something else answers
)

// proxy stands between Caddy and a database.
type proxy struct {
	t        *testing.T
	to       string
	address  string
	fault    atomic.Int32
	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]bool
	all      sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	port, err := ports.Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, to: to, address: ports.Loopback(port), open: make(map[net.Conn]bool)}
	p.listen()
	t.Cleanup(p.refuse)
	return p
}

// listen takes connections, on the same port each time.
func (p *proxy) listen() {
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Error(err)
		return
	}
	p.mu.Lock()
	p.listener = listener
	p.mu.Unlock()
	p.all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.serve(conn) })
		}
	})
}

// refuse takes no connection any more, and ends those that there are.
func (p *proxy) refuse() {
	p.mu.Lock()
	p.listener.Close()
	for conn := range p.open {
		conn.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}

func (p *proxy) keep(conn net.Conn) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[conn] = true
	return func() {
		conn.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, conn)
	}
}

func (p *proxy) serve(client net.Conn) {
	defer p.keep(client)()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer p.keep(server)()
	p.all.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	buffer := make([]byte, 16<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		switch fault(p.fault.Load()) {
		case slow:
			time.Sleep(100 * time.Millisecond) // the fault itself
		case hole:
			_, _ = io.Copy(io.Discard, server)
			return
		case wrong:
			_, _ = io.WriteString(client, "HTTP/1.1 400 Bad Request\r\n\r\n")
			return
		case reset:
			_, _ = client.Write(buffer[:n/2])
			_ = client.(*net.TCPConn).SetLinger(0)
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestNoFaultOfTheNetworkEndsASession has faults between Caddy and the
// database under load.
func TestNoFaultOfTheNetworkEndsASession(t *testing.T) {
	pg, err := pgtest.Start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Close() })
	if err := pg.Exec(t.Context(), "postgres", `create table "User" (id text primary key)`, `insert into "User" values ('live'), ('quiet')`,
		`create role app login`, `grant select on "User" to app`); err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, pg.Address())
	environment(t, "postgres://app@"+p.address+"/postgres?sslmode=disable")
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	cache {", "		ttl 50ms", "	}", "	poll 50ms", "	timeout 1s", "}", app.Proxy()))

	set := func(f fault) func() error {
		return func() error { p.fault.Store(int32(f)); return nil }
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
		{"connections refused", func() error { p.refuse(); return nil }, func() error { p.listen(); return nil }},
		{"slow answers", set(slow), set(none)},
		{"a black hole", set(hole), func() error {
			p.refuse() // as connections in it never end by themselves
			p.fault.Store(int32(none))
			p.listen()
			return nil
		}},
		{"resets in the middle of an answer", set(reset), set(none)},
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
	p := newProxy(t, server.Address())
	dsn := server.DSN(newDatabase(t))
	environment(t, strings.Replace(dsn, server.Address(), p.address, 1))
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	cache {", "		ttl 10ms", "	}", "	timeout 5s", "}", app.Proxy()))
	live := session(t, "live")
	if status := ask(t, base, live); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	p.fault.Store(int32(hole))
	// The first ones wait, and find out.
	for i := range 4 {
		if status := ask(t, base, session(t, fmt.Sprintf("first %d", i))); status != http.StatusOK {
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
		request.Header.Set("Cookie", session(t, fmt.Sprintf("later %d", i)))
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
