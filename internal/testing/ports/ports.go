// Package ports reserves TCP ports for the servers of tests.
package ports

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// All ports, and those of the Redis cluster bus 10000 above them, are below the
// range of ephemeral ports, so that no outgoing connection takes one.
// e2e/processes.mjs has the same numbers.
const (
	first  = 14000
	number = 8000
)

// reserved holds UDP sockets. A socket on TCP port + number reserves that port, also
// from tests in other processes, so that a server can restart on it.
var reserved struct {
	sync.Mutex
	sockets []net.PacketConn
}

// Free returns a port of the loopback that nothing listens on. It is not returned
// again, here or in another process, until this process ends.
func Free(ctx context.Context) (int, error) {
	var listen net.ListenConfig
	for range 1000 {
		port := first + rand.IntN(number)
		reservation, err := listen.ListenPacket(ctx, "udp", Loopback(port+number))
		if err != nil {
			continue
		}
		listener, err := listen.Listen(ctx, "tcp", Loopback(port))
		if err != nil {
			_ = reservation.Close() // the error that counts is that of the port
			continue
		}
		reserved.Lock()
		defer reserved.Unlock()
		reserved.sockets = append(reserved.sockets, reservation)
		return port, listener.Close()
	}
	return 0, errors.New("no free port found")
}

// Loopback returns the address of a port of the loopback.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
