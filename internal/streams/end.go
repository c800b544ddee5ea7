package streams

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

const (
	// firstPress is how long a handler has to end by itself once its request is
	// canceled, pressEvery when it is pressed again, slowly after pressFor.
	firstPress = 5 * time.Millisecond
	pressEvery = 25 * time.Millisecond
	pressSlow  = time.Second
	pressFor   = 2 * time.Second
	// maxAnswer is how long the answer to an ended request may take, on a machine with
	// all its cores busy, too.
	maxAnswer = time.Second
)

// kill ends the stream. The caller holds s.mu.
func (s *Stream) kill(why *Ended) {
	s.ended, s.killedAt, s.left = why, now(), make(chan struct{})
	s.killed.Store(true)
	if s.socket != nil && s.kind.upgraded() {
		go s.socket.end(why.Another)
		return
	}
	s.stop()
}

// stop cancels the request. It is a plain cancel: with a cause, a proxy would take
// its upstream for broken. The caller holds s.mu.
func (s *Stream) stop() {
	s.cancel()
	if s.state == open && (s.socket == nil || s.socket.Conn == nil) {
		s.interrupt = time.AfterFunc(firstPress, s.press)
	}
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// press ends reads and writes in which the handler is held up. The deadlines are set
// at the server's own writer, because those around it have no lock, and again until
// the handler has returned, because they set theirs.
func (s *Stream) press() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != open {
		return
	}
	took := now() - s.killedAt
	broken := s.sent || took >= maxAnswer
	server := http.NewResponseController(innermost(s.writer))
	if !s.arrived.Load() {
		s.readPast = true
		_ = server.SetReadDeadline(past) // an error means that the connection has ended
	}
	if broken {
		_ = server.SetWriteDeadline(past)
	}
	if broken && took >= pressEvery {
		s.breakConn()
	}
	next := pressEvery
	if took > pressFor {
		next = pressSlow
	}
	s.interrupt = time.AfterFunc(next, s.press)
}

type connKey struct{}

// Remember adds a connection to its context, so that it can be broken.
func Remember(ctx context.Context, conn net.Conn) context.Context {
	if ctx.Value(connKey{}) != nil { // by another handler
		return ctx
	}
	return context.WithValue(ctx, connKey{}, conn)
}

// breakConn closes the connection of an HTTP/1 request. Those of later versions have
// other requests too.
func (s *Stream) breakConn() {
	if s.request.ProtoMajor != 1 {
		return
	}
	conn, _ := s.request.Context().Value(connKey{}).(net.Conn)
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn() // to say good-bye takes time
	}
	if conn != nil {
		_ = conn.Close() // an error means that it is closed
	}
}

// innermost returns the server's own writer.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}
