package streams

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"

	registry "github.com/seed-4adef13c/caddy-stale-session/internal/streams"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/selfsigned"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// streamsApp is an app with one path for each kind of stream. What ends is told by
// the subject of the session.
type streamsApp struct {
	*httptest.Server
	arrived, ended chan string // kind

	mu   sync.Mutex
	sent int           // events on each event stream but the first
	next chan struct{} // closed when there is one more
}

func newStreamsApp(t testing.TB, start func(*httptest.Server)) *streamsApp {
	a := &streamsApp{arrived: make(chan string, 10_000), ended: make(chan string, 10_000), next: make(chan struct{})}
	a.Server = httptest.NewUnstartedServer(a)
	start(a.Server)
	t.Cleanup(a.Close)
	return a
}

// events returns how many events were sent, and what is closed when there is one more.
func (a *streamsApp) events() (sent int, next <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sent, a.next
}

// send sends an event on each event stream, and returns its number.
func (a *streamsApp) send() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent++
	close(a.next)
	a.next = make(chan struct{})
	return a.sent
}

func (a *streamsApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := strings.TrimPrefix(r.URL.Path, "/")
	defer func() { a.ended <- kind }()
	flush := http.NewResponseController(w).Flush
	switch kind, _, _ := strings.Cut(kind, "/"); kind {
	case "events":
		w.Header().Set("Content-Type", "text/event-stream")
		_, next := a.events()
		_, _ = io.WriteString(w, "data: first\n\n")
		_ = flush()
		a.arrived <- kind
		for {
			select {
			case <-r.Context().Done():
				return
			case <-next:
			}
			var sent int
			sent, next = a.events()
			_, _ = fmt.Fprintf(w, "data: %d\n\n", sent)
			_ = flush()
		}
	case "busy":
		w.Header().Set("Content-Type", "text/event-stream")
		a.arrived <- kind
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "data: x\n\n")
			_ = flush()
			time.Sleep(time.Millisecond) // an event now and then
		}
	case "download", "stalled-download":
		w.Header().Set("Content-Length", fmt.Sprint(1<<40))
		a.arrived <- kind
		piece := make([]byte, 1<<16)
		for {
			if _, err := w.Write(piece); err != nil {
				return
			}
			if kind == "download" {
				time.Sleep(time.Millisecond)
			}
		}
	case "poll":
		a.arrived <- kind
		<-r.Context().Done()
	case "upload", "stalled-upload":
		a.arrived <- kind
		_, _ = io.Copy(io.Discard, r.Body)
	case "socket", "silent-socket":
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		a.arrived <- kind
		for {
			typ, message, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), typ, message) != nil {
				return
			}
		}
	}
}

// client is one of a protocol.
type client struct {
	base string
	http *http.Client
}

// startFor starts a site, and returns a client that uses a protocol.
func startFor(t *testing.T, protocol string, directives ...string) client {
	t.Helper()
	site := strings.Replace(caddytest.Site(directives...), "{\n", "{\n\tservers {\n\t\tprotocols h1 h2 h2c h3\n\t}\n", 1)
	if protocol == "h1" || protocol == "h2c" {
		transport := &http.Transport{Protocols: caddytest.Protocols(protocol == "h2c")}
		t.Cleanup(transport.CloseIdleConnections)
		return client{start(t, site), &http.Client{Transport: transport}}
	}
	certificate, err := selfsigned.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	base := "https://127.0.0.1:" + caddytest.FreePort(t)
	start(t, strings.Replace(site, ":0 {\n\tbind 127.0.0.1\n", base+" {\n\ttls "+certificate.File+" "+certificate.KeyFile+"\n", 1))
	trusted := x509.NewCertPool()
	trusted.AddCert(certificate.Certificate)
	secured := &tls.Config{RootCAs: trusted}
	if protocol == "h3" {
		transport := &http3.Transport{TLSClientConfig: secured}
		t.Cleanup(func() { _ = transport.Close() })
		return client{base, &http.Client{Transport: transport}}
	}
	transport := &http.Transport{TLSClientConfig: secured, ForceAttemptHTTP2: protocol == "h2 TLS"}
	t.Cleanup(transport.CloseIdleConnections)
	return client{base, &http.Client{Transport: transport}}
}

// start starts a Caddy, which is stopped once the streams have left that their tests have
// closed: its proxy has a data race when it closes a WebSocket that ends at that moment.
func start(t *testing.T, site string) (base string) {
	t.Helper()
	base = caddytest.Start(t, site)
	t.Cleanup(func() {
		eventually.Holds(t, "nothing is under way", func() bool { return len(registry.Open.Count()) == 0 })
	})
	return base
}

// stream opens a stream of a kind, and returns a channel with how it has ended.
func (c client) stream(t *testing.T, kind, subject string) <-chan string {
	ended := make(chan string, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	header := http.Header{"Cookie": {standardapp.Session(t, subject)}}
	var body io.Reader = http.NoBody
	method := http.MethodGet
	switch kind {
	case "upload":
		method, body = http.MethodPost, trickle{}
	case "stalled-upload":
		reader, writer := io.Pipe()
		go func() { _, _ = writer.Write([]byte("a beginning")) }()
		t.Cleanup(func() { writer.Close() })
		method, body = http.MethodPost, reader
	case "socket":
		go func() {
			conn, _, err := websocket.Dial(ctx, c.base+"/"+kind, &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: header})
			if err != nil {
				ended <- err.Error()
				return
			}
			defer conn.CloseNow()
			_, _, err = conn.Read(ctx)
			ended <- describe(err)
		}()
		return ended
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+"/"+kind, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	go func() {
		response, err := c.http.Do(request)
		switch {
		case err == nil:
		case strings.Contains(err.Error(), "H3_INTERNAL_ERROR"): // a reset overtakes what was sent before
			ended <- describe(err)
			return
		default:
			ended <- err.Error()
			return
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			ended <- response.Status
			return
		}
		if kind == "stalled-download" {
			<-ctx.Done()
			return
		}
		_, err = io.Copy(io.Discard, bufio.NewReader(response.Body))
		ended <- describe(err)
	}()
	return ended
}

// trickle is an upload that goes on and on.
type trickle struct{}

func (trickle) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return min(len(p), 1<<10), nil
}

// describe tells what a client is told of the end of a stream.
func describe(err error) string {
	var closed websocket.CloseError
	switch {
	case err == nil:
		return "complete"
	case errors.As(err, &closed):
		return fmt.Sprintf("closed %d %q", int(closed.Code), closed.Reason)
	}
	return "broken off"
}

// TestAStreamEndsWithItsSession opens one stream of each kind for a user who is then
// deleted, and one for a user who stays.
func TestAStreamEndsWithItsSession(t *testing.T) {
	kinds := map[string]string{
		"events": "broken off", "busy": "broken off", "download": "broken off", "stalled-download": "",
		"poll": "401 Unauthorized", "upload": "401 Unauthorized", "stalled-upload": "401 Unauthorized",
		"socket": `closed 1008 "The session has ended."`,
	}
	for name, c := range map[string]struct {
		protocol   string
		triggers   bool
		h2Upstream bool
		before     []string
		proxy      string
	}{
		"HTTP/1.1":           {protocol: "h1"},
		"HTTP/1.1, triggers": {protocol: "h1", triggers: true, before: []string{"log", "encode", "intercept {", "	@x status 599", "	handle_response @x {", "	}", "}"}, proxy: "flush_interval -1"},
		"HTTP/1.1, TLS":      {protocol: "h1 TLS", triggers: true},
		"HTTP/2":             {protocol: "h2 TLS", triggers: true, before: []string{"log", "encode"}},
		"HTTP/2, cleartext":  {protocol: "h2c", triggers: true, h2Upstream: true, proxy: "transport http {\nversions h2c\n}"},
		"HTTP/3":             {protocol: "h3", triggers: true, before: []string{"log"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() {
				eventually.Holds(t, "no goroutine is left", func() bool { return goleak.Find(before) == nil })
			})
			database := standardapp.NewDatabase(t)
			if c.triggers {
				standardapp.InstallTriggers(t, standardapp.Server.DSN(database))
			}
			app := newStreamsApp(t, func(s *httptest.Server) {
				s.Config.Protocols = caddytest.Protocols(c.h2Upstream)
				s.Start()
			})
			base := startFor(t, c.protocol, append(c.before, "stale_session", "reverse_proxy "+app.Listener.Addr().String()+" {", c.proxy, "	fail_duration 30s", "}")...)
			gone, stays := make(map[string]<-chan string), make(map[string]<-chan string)
			opened := 0
			for kind := range kinds {
				switch {
				case kind == "socket" && !strings.HasPrefix(c.protocol, "h1"): // see tunnel_test.go
					continue
				case strings.HasSuffix(kind, "upload") && c.h2Upstream: // where Caddy's proxy has a data race as soon as any client goes away
					continue
				}
				standardapp.Execute(t, database, fmt.Sprintf(`insert into "User" values ('%s')`, kind))
				gone[kind], stays[kind] = base.stream(t, kind, kind), base.stream(t, kind, "live")
				opened += 2
			}
			for range opened {
				<-app.arrived
			}
			standardapp.Execute(t, database, `delete from "User" where id <> 'live'`)
			for kind, ended := range gone {
				if want := kinds[kind]; want != "" {
					got := <-ended
					if kind == "upload" && strings.HasPrefix(c.protocol, "h1") && strings.Contains(got, "write tcp") {
						continue // HTTP/1 can't stop a client that sends, so it may not read the answer
					}
					if got != want {
						t.Errorf("%s: %s, want %s", kind, got, want)
					}
				}
			}
			for range gone {
				<-app.ended
			}
			for _, kind := range []string{"events", "socket"} {
				if _, opened := gone[kind]; opened {
					if got := <-base.stream(t, kind, kind); !strings.Contains(got, "401") {
						t.Errorf("what connects again: %s", got)
					}
				}
			}
			for kind, ended := range stays {
				select {
				case how := <-ended:
					t.Errorf("%s of a live user: %s", kind, how)
				default:
				}
			}
			if got := <-base.stream(t, "x", "live"); got != "complete" {
				t.Errorf("another request: %s", got)
			}
		})
	}
}
