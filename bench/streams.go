package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"
)

// soakUpload is how large an upload is, in bytes.
const soakUpload = 4 << 20

// pieces is how many events or messages a stream has.
const pieces = 30

// protocols returns the clients of a soak by version of HTTP.
func (s *soaking) protocols() map[string]*client {
	var one, two http.Protocols
	one.SetHTTP1(true)
	two.SetHTTP2(true)
	return map[string]*client{
		"HTTP/1.1": {url: s.url, RoundTripper: &http.Transport{Protocols: &one, MaxIdleConnsPerHost: askers}},
		"HTTP/2":   {url: s.secure, RoundTripper: &http.Transport{Protocols: &two, TLSClientConfig: trusting.Clone()}},
		"HTTP/3":   {url: s.secure, RoundTripper: &http3.Transport{TLSClientConfig: trusting.Clone()}},
	}
}

// client sends requests in one version of HTTP.
type client struct {
	http.RoundTripper

	url   string
	asked atomic.Int64
}

// ask sends a request with a Cookie field.
func (c *client) ask(ctx context.Context, cookie string) (status int, err error) {
	response, err := c.send(ctx, http.MethodGet, "/admin", cookie, http.NoBody)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

func (c *client) send(ctx context.Context, method, path, cookie string, body io.Reader) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		cancel()
		return nil, err
	}
	request.Header.Set("Cookie", cookie)
	response, err := c.RoundTrip(request)
	if err != nil {
		cancel()
		return nil, err
	}
	response.Body = &cancelling{response.Body, cancel}
	return response, nil
}

// cancelling ends the context of a body that is closed.
type cancelling struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (c *cancelling) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

// errWrong means that data was changed on its way.
var errWrong = errors.New("a stream was changed on its way")

// streamed counts the streams of a soak.
type streamed struct{ events, sockets, uploads, refused, broken atomic.Int64 }

func (s *streamed) String() string {
	return fmt.Sprintf("%d event streams, %d WebSockets and %d uploads of %d MiB of live sessions passed, %d of stale ones were refused, a reload closed %d",
		s.events.Load(), s.sockets.Load(), s.uploads.Load(), soakUpload>>20, s.refused.Load(), s.broken.Load())
}

// stream opens one stream of a session after another. The session is either live
// or stale all the time.
func (s *soaking) stream(ctx context.Context, c *client, cookie string, live bool, what *atomic.Int64, do func(context.Context, *client, string) (status int, err error)) error {
	for ctx.Err() == nil {
		status, err := do(ctx, c, cookie)
		switch {
		case errors.Is(err, errWrong):
			return err
		case live && status == http.StatusUnauthorized:
			s.ended.Add(1)
		case !live && (status == http.StatusOK || status == http.StatusSwitchingProtocols):
			s.admitted.Add(1)
		case err != nil || status == http.StatusServiceUnavailable:
			s.streams.broken.Add(1)
		case !live:
			s.streams.refused.Add(1)
		default:
			what.Add(1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond): // a person's pace, not a load
		}
	}
	return nil
}

// events reads some server-sent events and checks their order.
func events(ctx context.Context, c *client, cookie string) (int, error) {
	response, err := c.send(ctx, http.MethodGet, "/admin/events", cookie, http.NoBody)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return response.StatusCode, nil
	}
	lines := bufio.NewReader(response.Body)
	for i := range pieces {
		line, err := lines.ReadString('\n')
		if err != nil {
			return response.StatusCode, err
		}
		if line != fmt.Sprintf("data: %d\n", i) {
			return response.StatusCode, fmt.Errorf("%w: event %d is %q", errWrong, i, line)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			return response.StatusCode, err
		}
	}
	return response.StatusCode, nil
}

// socket sends messages through a WebSocket that echoes them.
func socket(ctx context.Context, c *client, cookie string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, response, err := websocket.Dial( //nolint:bodyclose // the library takes care of it
		ctx, c.url+"/admin/socket", &websocket.DialOptions{
			HTTPHeader: http.Header{"Cookie": {cookie}}, HTTPClient: &http.Client{Transport: c.RoundTripper},
		})
	if response == nil {
		return 0, err
	}
	if err != nil {
		return response.StatusCode, nil
	}
	defer func() { _ = conn.CloseNow() }()
	for i := range pieces {
		said := strings.Repeat("x", i*100)
		if err := conn.Write(ctx, websocket.MessageText, []byte(said)); err != nil {
			return response.StatusCode, err
		}
		_, heard, err := conn.Read(ctx)
		if err != nil {
			return response.StatusCode, err
		}
		if string(heard) != said {
			return response.StatusCode, fmt.Errorf("%w: a message of %d bytes is one of %d", errWrong, len(said), len(heard))
		}
	}
	return response.StatusCode, nil
}

// upload sends some MiB and checks how many bytes the app got.
func upload(ctx context.Context, c *client, cookie string) (int, error) {
	response, err := c.send(ctx, http.MethodPost, "/admin/upload", cookie, bytes.NewReader(make([]byte, soakUpload)))
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK && string(text) != fmt.Sprint(soakUpload, " ", nil) {
		err = fmt.Errorf("%w: the app counted %q", errWrong, text)
	}
	return response.StatusCode, err
}
