package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"
)

// streamKind is a kind of stream by a version of HTTP.
type streamKind struct {
	name      string
	secure    bool // it is opened by TLS
	transport http.RoundTripper
	open      func(ctx context.Context, t http.RoundTripper, base, cookie string) (*opened, error)
}

// opened is a stream that goes on until its session ends.
type opened struct {
	done chan struct{}
	at   time.Time // of the end
	err  error     // if that was another than that of a stale session
}

// begin reads a stream until it ends.
func begin(read func() error) *opened {
	s := &opened{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.err = read()
		s.at = time.Now()
	}()
	return s
}

// wait waits for the end, and returns when that was.
func (s *opened) wait(ctx context.Context) (time.Time, error) {
	select {
	case <-s.done:
		return s.at, s.err
	case <-ctx.Done():
		return time.Time{}, errors.New("a stream has not ended")
	}
}

// over reports whether a stream has ended.
func (s *opened) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// streamKinds returns the kinds of streams, and those of which one reason is enough:
// they are ended in the same way.
func streamKinds() (kinds, others []streamKind) {
	var one, two http.Protocols
	one.SetHTTP1(true)
	two.SetHTTP2(true)
	plain := &http.Transport{Protocols: &one, MaxIdleConnsPerHost: askers}
	tls1 := &http.Transport{Protocols: &one, MaxIdleConnsPerHost: askers, TLSClientConfig: trusting.Clone()}
	http2 := spread(func() http.RoundTripper { return &http.Transport{Protocols: &two, TLSClientConfig: trusting.Clone()} })
	http3 := spread(func() http.RoundTripper { return &http3.Transport{TLSClientConfig: trusting.Clone()} })
	kinds = []streamKind{
		{"WebSocket, HTTP/1.1", false, plain, openSocket},
		{"event stream, HTTP/1.1", false, plain, openEvents},
		{"event stream, HTTP/1.1 with TLS", true, tls1, openEvents},
		{"event stream, HTTP/2", true, http2, openEvents},
		{"event stream, HTTP/3", true, http3, openEvents},
	}
	others = []streamKind{
		{"download, HTTP/2", true, http2, openDownload},
		{"long poll, HTTP/1.1", false, plain, openPoll},
		{"upload, HTTP/3", true, http3, openUpload},
	}
	return kinds, others
}

// spread returns several transports that take turns: a connection of HTTP/2 or 3 has
// some hundred streams at most.
func spread(transport func() http.RoundTripper) http.RoundTripper {
	s := new(turns)
	for i := range s.transports {
		s.transports[i] = transport()
	}
	return s
}

type turns struct {
	transports [50]http.RoundTripper
	next       atomic.Uint64
}

// RoundTrip implements http.RoundTripper.
func (s *turns) RoundTrip(r *http.Request) (*http.Response, error) {
	return s.transports[s.next.Add(1)%uint64(len(s.transports))].RoundTrip(r)
}

// request sends a request with a Cookie field.
func request(ctx context.Context, t http.RoundTripper, method, url, cookie string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Cookie", cookie)
	return t.RoundTrip(r)
}

// The errors of streams that have ended otherwise than with their session.
var (
	errComplete = errors.New("a stream has ended as if it was complete")
	errOther    = errors.New("a WebSocket was not closed with 1008")
)

func openEvents(ctx context.Context, t http.RoundTripper, base, cookie string) (*opened, error) {
	return openResponse(ctx, t, base+"/admin/quiet", cookie)
}

func openDownload(ctx context.Context, t http.RoundTripper, base, cookie string) (*opened, error) {
	return openResponse(ctx, t, base+"/admin/download", cookie)
}

// openResponse opens a stream whose end looks like a broken connection.
func openResponse(ctx context.Context, t http.RoundTripper, url, cookie string) (*opened, error) {
	response, err := request(ctx, t, http.MethodGet, url, cookie, http.NoBody)
	if err != nil {
		return nil, err
	}
	if _, err = io.ReadFull(response.Body, make([]byte, 1)); err == nil && response.StatusCode != http.StatusOK {
		err = &refused{response.StatusCode}
	}
	if err != nil {
		_ = response.Body.Close() // nothing is read any more
		return nil, err
	}
	return begin(func() error {
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err == nil {
			return errComplete
		}
		return ctx.Err()
	}), nil
}

// refused is the error of a stream that is not opened.
type refused struct{ status int }

// Error implements error.
func (r *refused) Error() string { return fmt.Sprintf("a stream got status %d", r.status) }

func openPoll(ctx context.Context, t http.RoundTripper, base, cookie string) (*opened, error) {
	return begin(func() error {
		return answered(request(ctx, t, http.MethodGet, base+"/admin/poll", cookie, http.NoBody))
	}), nil
}

func openUpload(ctx context.Context, t http.RoundTripper, base, cookie string) (*opened, error) {
	sent, body := io.Pipe()
	go func() { _, _ = body.Write(make([]byte, 1<<10)) }() // fails if the client gives up
	return begin(func() error {
		defer func() { _ = sent.Close() }()
		return answered(request(ctx, t, http.MethodPost, base+"/admin/upload", cookie, sent))
	}), nil
}

// answered checks that a request was answered as one of a stale session.
func answered(response *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		return &refused{response.StatusCode}
	}
	return nil
}

func openSocket(ctx context.Context, t http.RoundTripper, base, cookie string) (*opened, error) {
	conn, response, err := websocket.Dial( //nolint:bodyclose // the library takes care of it
		ctx, base+"/admin/socket", &websocket.DialOptions{
			HTTPHeader: http.Header{"Cookie": {cookie}}, HTTPClient: &http.Client{Transport: t},
		})
	if err != nil {
		if response != nil {
			err = &refused{response.StatusCode}
		}
		return nil, err
	}
	return begin(func() error {
		defer func() { _ = conn.CloseNow() }()
		if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			return fmt.Errorf("%w: %w", errOther, err)
		}
		return nil
	}), nil
}
