package streams

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	registry "github.com/seed-4adef13c/caddy-stale-session/internal/streams"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestARequestEndsAtAnyMomentOfItsLife deletes users at any moment of their requests, over
// connections on which a live user asks next.
func TestARequestEndsAtAnyMomentOfItsLife(t *testing.T) {
	const rounds = 8
	database := standardapp.NewDatabase(t)
	standardapp.InstallTriggers(t, standardapp.Server.DSN(database))
	app := newStreamsApp(t, (*httptest.Server).Start)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for range app.arrived {
		}
	}()
	go func() {
		for range app.ended {
		}
	}()
	for _, protocol := range []string{"h1", "h2c"} {
		c := startFor(t, protocol, "stale_session", "reverse_proxy "+app.Listener.Addr().String()+" {", "	fail_duration 30s", "}")
		random := rand.New(rand.NewPCG(1, 2))
		for round := range rounds {
			var all []<-chan string
			standardapp.Execute(t, database, `insert into "User" select 'gone ' || g from generate_series(0, 5) g`)
			for i, kind := range []string{"events", "busy", "poll", "x", "upload", "socket"} {
				if kind == "socket" && protocol != "h1" {
					continue
				}
				all = append(all, c.stream(t, kind, fmt.Sprint("gone ", i)))
				for range random.IntN(20) {
					time.Sleep(100 * time.Microsecond) // any moment
				}
			}
			standardapp.Execute(t, database, `delete from "User" where id <> 'live'`)
			for _, ended := range all {
				<-ended // for good
			}
			if got := <-c.stream(t, "x", "live"); got != "complete" {
				t.Fatalf("%s, round %d: %s", protocol, round, got)
			}
		}
	}
	eventually.Holds(t, "nothing is under way", func() bool { return len(registry.Open.Count()) == 0 })
	close(app.arrived)
	<-drained
}

// TestASilentFastCGIAppKeepsNoClient although it cannot be stopped itself.
func TestASilentFastCGIAppKeepsNoClient(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		eventually.Holds(t, "no goroutine is left", func() bool { return goleak.Find(before) == nil })
	})
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `insert into "User" values ('gone')`)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived, silent := make(chan struct{}, 2), make(chan struct{})
	go func() {
		_ = fcgi.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/answers" {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, "data: first\n\n")
				w.(http.Flusher).Flush()
			}
			arrived <- struct{}{}
			<-silent
			_, _ = io.WriteString(w, strings.Repeat("too late", 10_000))
		}))
	}()
	t.Cleanup(func() { _ = listener.Close() })
	c := startFor(t, "h1", "stale_session", "reverse_proxy "+listener.Addr().String()+" {", "	transport fastcgi", "}")
	ended := make(chan error, 2)
	for _, path := range []string{"/answers", "/silent"} {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, c.base+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Cookie", standardapp.Session(t, "gone"))
		go func() {
			response, err := c.http.Do(request)
			if err == nil {
				defer response.Body.Close()
				var text []byte
				if text, err = io.ReadAll(response.Body); err == nil {
					err = fmt.Errorf("status %d, %q", response.StatusCode, text)
				} else {
					err = nil
				}
			} else {
				err = nil
			}
			ended <- err
		}()
		<-arrived
	}
	standardapp.Execute(t, database, `delete from "User" where id = 'gone'`)
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("it looks complete: %v", err)
		}
	}
	if status := caddytest.Ask(t, c.base+"/x", standardapp.Session(t, "gone")); status != http.StatusUnauthorized {
		t.Errorf("the next request: status %d", status)
	}
	close(silent)
	caddytest.Client.CloseIdleConnections()
	eventually.Holds(t, "the handlers return once the app writes", func() bool { return len(registry.Open.Count()) == 0 })
}
