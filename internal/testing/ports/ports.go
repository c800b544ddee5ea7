// Package ports finds TCP ports for the servers of tests.
package ports

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// All ports, and those of Redis's cluster bus 10000 above them, are below the
// range that systems give to outgoing connections, so that none of these takes
// one. e2e/processes.mjs has the same numbers.
const (
	first  = 14000
	number = 8000
)

// reserved are UDP sockets. The one that is number above a TCP port reserves
// it: a server that restarts finds its port free, whatever else is tested.
var reserved struct {
	sync.Mutex
	sockets []net.PacketConn
}

// Free returns a port of the loopback that nothing listens on. Until this
// process ends, neither it nor the tests in other processes get it again.
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
			_ = reservation.Close() // the port is not taken
			continue
		}
		reserved.Lock()
		defer reserved.Unlock()
		reserved.sockets = append(reserved.sockets, reservation)
		return port, listener.Close()
	}
	return 0, errors.New("no free port was found")
}

// Loopback returns the address of a port on the loopback.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
