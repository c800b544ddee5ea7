package streams

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const (
	// Codes of close frames (RFC 6455, section 7.4.1). Clients come back after
	// goingAway, and some never do after policyViolation.
	policyViolation = 1008
	goingAway       = 1001
	// closeReason is what the page is told.
	closeReason = "The session has ended."
	// maxClose is how long a client has to answer a close frame, and afterClose how
	// long its answer has to reach the app.
	maxClose   = 250 * time.Millisecond
	afterClose = 5 * time.Millisecond
)

// socket is a connection that was upgraded, or the tunnel of an extended CONNECT.
type socket struct {
	net.Conn  // to the client, nil for a tunnel
	tunnel    http.ResponseWriter
	stream    *Stream
	webSocket bool

	writing  sync.Mutex // covers out, and all that is sent
	out      frames
	in       frames // read by one goroutine
	ending   atomic.Bool
	said     atomic.Bool // the client was told that the session has ended
	answered atomic.Bool // it has closed
	code     uint16
	once     sync.Once
}

// Write sends what the app has sent, up to the end of the frame under way if the
// session has ended: the rest is dropped, because an error would have the proxy break
// the connection off before the client has read why.
func (k *socket) Write(p []byte) (int, error) {
	k.writing.Lock()
	defer k.writing.Unlock()
	if k.said.Load() {
		return len(p), nil
	}
	if !k.webSocket {
		return k.send(p)
	}
	rest := p
	if k.ending.Load() {
		rest = nil
		if !k.out.between() {
			probe := k.out
			rest = p[:probe.next(p)]
		}
	}
	if len(rest) > 0 {
		n, err := k.send(rest)
		k.out.follow(rest[:n])
		if err != nil {
			return n, err
		}
	}
	k.say()
	if k.said.Load() {
		return len(p), nil
	}
	return len(rest), nil
}

// Read reads what the client has sent.
func (k *socket) Read(p []byte) (int, error) {
	n, err := k.Conn.Read(p)
	if n > 0 {
		k.received(p[:n])
	}
	return n, err
}

// send sends something to the client. The caller holds k.writing.
func (k *socket) send(p []byte) (int, error) {
	if k.tunnel != nil {
		return k.tunnel.Write(p)
	}
	return k.Conn.Write(p)
}

// flush sends what was written so far. The caller holds k.writing.
func (k *socket) flush() error {
	if k.tunnel != nil {
		return http.NewResponseController(k.tunnel).Flush()
	}
	return nil
}

// say sends the close frame, if the session has ended and no frame is under way. The
// caller holds k.writing.
func (k *socket) say() {
	if !k.ending.Load() || k.said.Load() || !k.out.between() {
		return
	}
	var err error
	if !k.out.closed { // the app has said why
		if _, err = k.send(closeFrame(k.code, closeReason)); err == nil {
			err = k.flush()
		}
	}
	k.said.Store(true)
	switch {
	case err != nil:
		k.finish()
	case k.answered.Load():
		time.AfterFunc(afterClose, k.finish)
	}
}

// received follows what the client has sent.
func (k *socket) received(p []byte) {
	if !k.webSocket || k.in.closed {
		return
	}
	if k.in.follow(p); k.in.closed {
		k.answered.Store(true)
		if k.said.Load() {
			time.AfterFunc(afterClose, k.finish)
		}
	}
}

// end ends the connection. Another tells that the client may come back.
func (k *socket) end(another bool) {
	if !k.webSocket {
		k.finish()
		return
	}
	if k.code = policyViolation; another {
		k.code = goingAway
	}
	time.AfterFunc(maxClose, k.finish)
	if k.Conn != nil {
		_ = k.SetWriteDeadline(time.Now().Add(maxClose)) // an error means that it has ended
	}
	k.ending.Store(true)
	k.writing.Lock()
	defer k.writing.Unlock()
	k.say()
}

// finish ends both connections.
func (k *socket) finish() {
	k.once.Do(func() {
		k.stream.mu.Lock()
		k.stream.stop()
		k.stream.mu.Unlock()
		if k.Conn != nil {
			_ = k.Close() // an error means that it has ended
		}
	})
}

// leave keeps anything from being sent through a writer whose handler returns.
func (k *socket) leave() {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.said.Store(true)
}

// upgradeWriter gives out connections that can be ended.
type upgradeWriter struct {
	caddyhttp.ResponseWriterWrapper
	stream    *Stream
	webSocket bool
}

func newUpgradeWriter(w http.ResponseWriter, s *Stream, webSocket bool) *upgradeWriter {
	return &upgradeWriter{caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, s, webSocket}
}

var errEnded = errors.New("the session has ended")

// Hijack implements http.Hijacker.
func (w *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	s := w.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed.Load() {
		return nil, nil, errEnded
	}
	conn, buffers, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return conn, buffers, err
	}
	k := &socket{Conn: conn, stream: s, webSocket: w.webSocket}
	s.sent, s.kind = true, upgrade
	if w.webSocket {
		s.kind = webSocket
	}
	if early, err := buffers.Peek(buffers.Reader.Buffered()); err == nil {
		k.received(early)
	}
	var wrapped net.Conn = k
	if _, ok := conn.(halfCloser); ok {
		wrapped = halfSocket{k}
	}
	if buffers.Flush() == nil { // else it returns the error again
		buffers.Writer.Reset(wrapped)
	}
	s.socket = k
	return wrapped, buffers, nil
}

type halfCloser interface{ CloseWrite() error }

// halfSocket is a socket of which one direction can be closed. Of any other, a proxy
// must not believe so.
type halfSocket struct{ *socket }

// CloseWrite closes the direction to the client, unless both are about to be.
func (k halfSocket) CloseWrite() error {
	if k.ending.Load() {
		return nil
	}
	return k.Conn.(halfCloser).CloseWrite()
}

// tunnelWriter is the writer of an extended CONNECT (RFC 8441, RFC 9220).
type tunnelWriter struct {
	caddyhttp.ResponseWriterWrapper
	socket *socket
}

// tunnel returns the writer of an extended CONNECT. The caller holds s.mu.
func (s *Stream) tunnel(w http.ResponseWriter) http.ResponseWriter {
	t := &tunnelWriter{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	t.socket = &socket{tunnel: w, stream: s, webSocket: true}
	s.socket = t.socket
	return t
}

// Write sends what the app has sent.
func (w *tunnelWriter) Write(p []byte) (int, error) { return w.socket.Write(p) }

// FlushError sends what was written so far.
func (w *tunnelWriter) FlushError() error {
	w.socket.writing.Lock()
	defer w.socket.writing.Unlock()
	return w.socket.flush()
}

// Flush is FlushError for handlers that use http.Flusher.
func (w *tunnelWriter) Flush() { _ = w.FlushError() }

// isExtendedConnect reports whether a request opens a WebSocket in HTTP/2 or 3, as
// Caddy's proxy tells.
func isExtendedConnect(r *http.Request) bool {
	return r.Method == http.MethodConnect &&
		(r.ProtoMajor == 2 && r.Header.Get(":protocol") == "websocket" || r.ProtoMajor == 3 && r.Proto == "websocket")
}

// isWebSocket reports whether a request asks to upgrade to a WebSocket.
func isWebSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// Interface guards
var (
	_ http.Hijacker = (*upgradeWriter)(nil)
	_ http.Flusher  = (*tunnelWriter)(nil)
	_ net.Conn      = (*socket)(nil)
	_ halfCloser    = halfSocket{}
)
