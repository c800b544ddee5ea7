// Package faultproxy is a proxy with faults, which tests put before a server.
package faultproxy

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/ports"
)

// Fault is what a proxy does to the connections through it.
type Fault int32

// The faults.
const (
	None  Fault = iota
	Slow        // each piece of an answer comes late
	Hole        // nothing comes any more, on old connections and new ones
	Reset       // connections are reset in the middle of an answer
	Wrong       // something else answers
)

// Proxy stands between Caddy and a server.
type Proxy struct {
	// Address is where it listens: host and port.
	Address string

	t        *testing.T
	to       string
	fault    atomic.Int32
	mu       sync.Mutex
	listener net.Listener // nil while it refuses
	open     map[net.Conn]bool
	all      sync.WaitGroup
}

// New starts a proxy before the server at an address, until the end of the test.
func New(t *testing.T, to string) *Proxy {
	port, err := ports.Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t, to: to, Address: ports.Loopback(port), open: make(map[net.Conn]bool)}
	p.Listen()
	t.Cleanup(p.Refuse)
	return p
}

// Set begins a fault, or ends it with None.
func (p *Proxy) Set(f Fault) { p.fault.Store(int32(f)) }

// Listen takes connections, on the same port each time.
func (p *Proxy) Listen() {
	var listen net.ListenConfig
	listener, err := listen.Listen(context.Background(), "tcp", p.Address)
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

// Refuse takes no connection any more, and ends those that there are.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	for conn := range p.open {
		conn.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}

// keep has Refuse end a connection, at once if it refuses by now.
func (p *Proxy) keep(conn net.Conn) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[conn] = true
	if p.listener == nil {
		conn.Close()
	}
	return func() {
		conn.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, conn)
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.keep(client)()
	var dialer net.Dialer
	server, err := dialer.DialContext(context.Background(), "tcp", p.to)
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
		switch Fault(p.fault.Load()) {
		case Slow:
			time.Sleep(100 * time.Millisecond) // the fault itself
		case Hole:
			_, _ = io.Copy(io.Discard, server)
			return
		case Wrong:
			_, _ = io.WriteString(client, "HTTP/1.1 400 Bad Request\r\n\r\n")
			return
		case Reset:
			_, _ = client.Write(buffer[:n/2])
			_ = client.(*net.TCPConn).SetLinger(0)
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
