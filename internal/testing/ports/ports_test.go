package ports

import (
	"net"
	"testing"
)

func TestNoPortIsReturnedTwice(t *testing.T) {
	returned := make(map[int]bool)
	for range 500 {
		port, err := Free(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if returned[port] {
			t.Fatalf("port %d was returned twice", port)
		}
		returned[port] = true
	}
}

func TestAServerCanListenOnAFreePort(t *testing.T) {
	port, err := Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", Loopback(port))
	if err != nil {
		t.Fatalf("cannot listen: %v", err)
	}
	listener.Close()
}
