package ports

import (
	"net"
	"testing"
)

func TestNoPortIsGivenTwice(t *testing.T) {
	given := make(map[int]bool)
	for range 500 {
		port, err := Free(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if given[port] {
			t.Fatalf("port %d is given twice", port)
		}
		given[port] = true
	}
}

func TestAPortThatIsListenedOnIsNotFree(t *testing.T) {
	port, err := Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", Loopback(port))
	if err != nil {
		t.Fatalf("it is not free: %v", err)
	}
	listener.Close()
}
