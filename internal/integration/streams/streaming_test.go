package streams

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// streams is an app with Server-Sent Events, a WebSocket that echoes, and an
// upload that is counted. Each event waits until the test asks for it; uploading
// is told that an upload has arrived.
func streams(next <-chan struct{}, uploading chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			for i := 0; ; i++ {
				fmt.Fprintf(w, "data: %d\n\n", i)
				if err := http.NewResponseController(w).Flush(); err != nil {
					return
				}
				select {
				case <-next:
				case <-r.Context().Done():
					return
				}
			}
		case "/socket":
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer conn.CloseNow()
			for {
				kind, message, err := conn.Read(r.Context())
				if err != nil || conn.Write(r.Context(), kind, message) != nil {
					return
				}
			}
		case "/upload":
			uploading <- struct{}{}
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d %v", n, err)
		}
	}
}

// TestStreamsGoOnWhileReloading sends what streams through the module, live
// sessions and scrubbed ones, in both versions of HTTP, and reloads in between.
func TestStreamsGoOnWhileReloading(t *testing.T) {
	for name, c := range map[string]struct {
		subject   string
		options   string
		protocols *http.Protocols
	}{
		"live, HTTP/1.1":     {"live", "", caddytest.Protocols(false)},
		"live, HTTP/2":       {"live", "", caddytest.Protocols(true)},
		"scrubbed, HTTP/1.1": {"gone", "/guarded {\n\t\tscrub all\n\t}", caddytest.Protocols(false)},
		"scrubbed, HTTP/2":   {"gone", "/guarded {\n\t\tscrub all\n\t}", caddytest.Protocols(true)},
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() { // the last of all; Caddy's servers take a while to end
				eventually.Holds(t, "no goroutine is left", func() bool { return goleak.Find(before) == nil })
			})
			standardapp.NewDatabase(t)
			app := caddytest.NewApp(t)
			next, uploading := make(chan struct{}), make(chan struct{}, 1)
			app.Answer(streams(next, uploading))
			t.Setenv("STALE_TEST_PORT", caddytest.FreePort(t))
			site := caddytest.Site("stale_session "+c.options, app.Proxy()+" {\n\t\tstream_close_delay 1m\n\t}")
			site = strings.Replace(site, ":0", ":{$STALE_TEST_PORT}", 1)
			site = strings.Replace(site, "{\n", "{\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n", 1)
			base := caddytest.Start(t, site)
			reloads := 0
			reload := func() {
				reloads++
				if err := caddytest.Load(strings.Replace(site, "stale_session", fmt.Sprintf("header X-Reload %d\n\tstale_session", reloads), 1)); err != nil {
					t.Error(err)
				}
			}
			transport := &http.Transport{Protocols: c.protocols}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			do := func(method, path string, body io.Reader) (*http.Response, error) {
				request, err := http.NewRequestWithContext(ctx, method, base+path, body)
				if err != nil {
					return nil, err
				}
				request.Header.Set("Cookie", standardapp.Session(t, c.subject))
				return client.Do(request)
			}

			events, err := do(http.MethodGet, "/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer events.Body.Close()
			if cleared := len(events.Cookies()) > 0; cleared != (c.subject == "gone") {
				t.Errorf("cookies %v", events.Cookies())
			}
			reader := bufio.NewReader(events.Body)
			event := func(i int) {
				line, err := reader.ReadString('\n')
				if err != nil || line != fmt.Sprintf("data: %d\n", i) {
					t.Fatalf("event %d is %q, %v", i, line, err)
				}
				if _, err := reader.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			socket, _, err := websocket.Dial(ctx, base+"/socket", &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {standardapp.Session(t, c.subject)}}})
			if err != nil {
				t.Fatal(err)
			}
			defer socket.CloseNow()
			event(0)
			for i := range 3 {
				reload()
				next <- struct{}{}
				event(i + 1)
				message := fmt.Sprintf("message %d", i)
				if err := socket.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
					t.Fatal(err)
				}
				if _, echo, err := socket.Read(ctx); err != nil || string(echo) != message {
					t.Fatalf("echo %q, %v", echo, err)
				}
			}

			const size = 100 << 20
			var reached atomic.Bool
			try := func() (*http.Response, error) {
				pieces, pipe := io.Pipe()
				// The client of a connection that Caddy has closed waits for the rest of
				// the body, which comes once the app has got the first piece.
				unheard := time.AfterFunc(20*time.Second, func() {
					if !reached.Load() {
						_ = pieces.Close()
					}
				})
				defer unheard.Stop()
				ended := make(chan struct{})
				var sending sync.WaitGroup
				sending.Go(func() {
					defer pipe.Close()
					piece := make([]byte, 1<<20)
					for i := range size / len(piece) {
						if _, err := pipe.Write(piece); err != nil {
							return
						}
						if i == 0 {
							select {
							case <-uploading:
								reached.Store(true)
							case <-ended:
								return
							}
						}
						if i%20 == 10 {
							reload()
						}
					}
				})
				response, err := do(http.MethodPost, "/upload", pieces)
				close(ended)
				sending.Wait()
				return response, err
			}
			upload, err := try()
			for range 9 {
				if err == nil || reached.Load() || len(uploading) > 0 {
					break
				}
				// Caddy ends some connections with each reload, with and without
				// the module: this one was new, and the last reload a moment ago.
				upload, err = try()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer upload.Body.Close()
			text, err := io.ReadAll(upload.Body)
			if want := fmt.Sprintf("%d <nil>", size); err != nil || string(text) != want {
				t.Errorf("the app counted %q (%v), want %q", text, err, want)
			}
		})
	}
}

// TestALargeUploadOfAStaleSessionIsAnswered sees to it that a client that is
// still sending gets the answer.
func TestALargeUploadOfAStaleSessionIsAnswered(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/upload", io.LimitReader(zeros{}, 20<<20))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Cookie", standardapp.Session(t, "gone"))
	response, err := caddytest.Client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusUnauthorized || !strings.Contains(string(text), "stale_session") {
		t.Errorf("status %d, %q, %v", response.StatusCode, text, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
