package streams

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestTenThousandConnections opens so many that each holds one, half of live
// sessions and half of stale ones, and asks on all of them twice. No verdict is
// wrong, and when they are closed nothing is left. On a busy machine a lookup
// takes longer than the usual timeout, after which sessions pass unchecked.
func TestTenThousandConnections(t *testing.T) {
	want := 10_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const each = 2 // files: the client's end and Caddy's
	if most := int(limit.Cur)/each - 500; most < want {
		t.Logf("%d files can be open: %d connections instead of %d", limit.Cur, most, want)
		want = most
	}
	standardapp.NewDatabase(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	timeout 1m", "}", `respond "app"`))
	address := strings.TrimPrefix(base, "http://")
	requests := []string{
		fmt.Sprintf("GET /admin HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\n\r\n", standardapp.Session(t, "live")),
		fmt.Sprintf("GET /admin HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\n\r\n", standardapp.Session(t, "gone")),
	}
	statuses := []int{http.StatusOK, http.StatusUnauthorized}
	caddytest.Ask(t, base, standardapp.Session(t, "live"))
	before := runtime.NumGoroutine()

	connections := make([]net.Conn, want)
	var wrong, failed atomic.Int64
	askAll := func() {
		var all sync.WaitGroup
		const lanes = 64
		for lane := range lanes {
			all.Go(func() {
				for i := lane; i < want; i += lanes {
					if connections[i] == nil {
						conn, err := net.Dial("tcp", address)
						if err != nil {
							failed.Add(1)
							continue
						}
						connections[i] = conn
					}
					fmt.Fprint(connections[i], requests[i%2])
					response, err := http.ReadResponse(bufio.NewReader(connections[i]), nil)
					if err != nil {
						failed.Add(1)
						continue
					}
					if _, err := response.Body.Read(make([]byte, 1024)); err != nil && response.ContentLength > 1024 {
						failed.Add(1)
					}
					response.Body.Close()
					if response.StatusCode != statuses[i%2] {
						wrong.Add(1)
					}
				}
			})
		}
		all.Wait()
	}
	askAll()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	held := runtime.NumGoroutine()
	askAll()
	for _, conn := range connections {
		if conn != nil {
			conn.Close()
		}
	}
	t.Logf("%d connections, %d requests, %d wrong verdicts, %d failed; %d goroutines and %.0f MiB while they were open",
		want, 2*want, wrong.Load(), failed.Load(), held, float64(memory.HeapInuse)/(1<<20))
	if wrong.Load()+failed.Load() > 0 || held < want {
		t.Error("it did not go well")
	}
	eventually.Holds(t, "nothing is left of them", func() bool { return runtime.NumGoroutine() <= before+20 })
}
