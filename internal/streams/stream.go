// Package streams ends what is under way of a session that has ended: WebSockets,
// event streams, downloads, uploads and long polls.
//
// A change of an account, or a revocation, ends nothing: it has the session judged
// again, by the rules that end requests, and only a session that those end ends its
// streams.
package streams

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// Session judges the session of a stream.
type Session interface {
	// Judge judges it again, and returns why it has ended; nil if it goes on, or if
	// that is not known. swept tells that nothing has given a hint since that was known
	// last. It may wait for a lookup.
	Judge(swept bool) (ended *Ended, known bool)
	// Revoked reports whether a list may revoke it. It does not wait.
	Revoked(list *revocation.List) bool
	// Report tells that its stream is being ended. It is not called at the same time as
	// Judge.
	Report(kind string, why *Ended, age time.Duration)
}

// Ended is why a session has ended.
type Ended struct {
	verdict.Check
	// Judgements are those on each of its tokens.
	Judgements []verdict.Judgement
	// Another reports whether the client may have another session, which is live.
	Another bool
}

// grace is how long a request goes on as any other: most answers are complete by
// then. What the app writes in answer to a change of its own is not cut off.
const grace = time.Second

// instant is a time since started: many streams are open, and have many times.
type instant = time.Duration

var started = time.Now()

func now() instant { return time.Since(started) }

type state byte

const (
	unknown state = iota
	judging       // the session is being judged for the first time
	open
	done
)

// Stream is a request with a session while it is under way. The zero value is one
// that is not known to the registry, and never ends.
type Stream struct {
	registry *Registry
	entry    entry
	others   []entry // under its other names

	mu        sync.Mutex
	state     state
	hinted    bool // while it was judged for the first time
	queued    bool // waits to be judged, or is
	again     bool // was hinted while it was judged again
	swept     bool
	failures  byte // judgements without a result since the last that had one
	sent      bool // the header of the response
	doomed    bool // the session has ended, the request goes on until its header is sent
	tunneled  bool // by an extended CONNECT
	readPast  bool // a read deadline was set that is over
	answers   bool // a request without a response can be answered
	writes    bool // its method changes something
	kind      kind
	began     instant
	sentAt    instant // if writes
	judged    instant
	expires   instant // 0 for never
	noticed   instant // the last hint
	killedAt  instant
	left      chan struct{} // closed once its handler returns; nil if it is not killed
	ended     *Ended
	session   Session
	cancel    context.CancelFunc
	writer    http.ResponseWriter
	request   *http.Request
	socket    *socket
	body      io.ReadCloser // of the request
	interrupt *time.Timer

	killed  atomic.Bool
	arrived atomic.Bool // the request as a whole
}

// Enter makes a stream known by the names of its session, of which there is one at least,
// before these are looked up: what changes meanwhile has them looked up again. Leave must
// follow.
func (s *Stream) Enter(in *Registry, names []Name) {
	s.registry, s.state = in, judging
	s.add(names)
}

// Rename changes the names under which the stream is known, if a directory has learned
// of another spelling. What has changed meanwhile under that is looked up again.
func (s *Stream) Rename(names []Name) {
	if !s.isNamed(names) {
		s.remove()
		s.add(names)
		s.hint(false)
	}
}

func (s *Stream) isNamed(names []Name) bool {
	if len(names) != 1+len(s.others) || !s.entry.equals(names[0]) {
		return false
	}
	for i, name := range names[1:] {
		if !s.others[i].equals(name) {
			return false
		}
	}
	return true
}

func (s *Stream) add(names []Name) {
	s.entry = entry{stream: s, Name: names[0]}
	s.others = nil
	if len(names) > 1 {
		s.others = make([]entry, len(names)-1)
		for i, name := range names[1:] {
			s.others[i] = entry{stream: s, Name: name}
			s.registry.add(&s.others[i])
		}
	}
	s.registry.add(&s.entry)
}

func (s *Stream) remove() {
	s.entry.remove()
	for i := range s.others {
		s.others[i].remove()
	}
}

// Known reports whether Enter was called.
func (s *Stream) Known() bool { return s.state != unknown }

// Options say of what request a stream is.
type Options struct {
	Session Session
	Writer  http.ResponseWriter
	Request *http.Request
	// Began is when it came.
	Began time.Time
	// Answers tells that it can be answered while it has no response yet. Any other
	// gets its response.
	Answers bool
	// Expires is when its session does; zero for never.
	Expires time.Time
}

// Open begins the stream, once its session was judged live. Its request and response
// go through what is returned.
func (s *Stream) Open(o Options) (http.ResponseWriter, *http.Request) {
	r, w := o.Request, o.Writer
	ctx, cancel := context.WithCancel(r.Context())
	r = r.WithContext(ctx)
	s.mu.Lock()
	s.state, s.session, s.cancel, s.writer, s.request = open, o.Session, cancel, w, r
	s.began, s.answers = o.Began.Sub(started), o.Answers
	if s.judged = s.began; !o.Expires.IsZero() {
		s.expires = s.began + o.Expires.Sub(o.Began)
	}
	s.writes = r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodConnect
	s.tunneled = isExtendedConnect(r)
	if r.Body == nil || r.ContentLength == 0 && !s.tunneled { // the body is never http.NoBody, but Caddy's
		s.arrived.Store(true)
	} else {
		s.body = r.Body
		r.Body = (*body)(s)
	}
	switch {
	case s.tunneled:
		w = s.tunnel(w)
	case len(r.Header["Upgrade"]) > 0 || r.Method == http.MethodConnect:
		w = newUpgradeWriter(w, s, isWebSocket(r))
	}
	hinted := s.hinted
	s.mu.Unlock()
	s.registry.keepSweeping()
	if hinted {
		s.hint(false)
	}
	return w, r
}

// Send tells that the header of the response is about to be sent. It returns false
// if the stream was ended before: then the session has ended, and is to be answered.
func (s *Stream) Send(status int, header http.Header) bool {
	if s.state < open {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed.Load() {
		return false
	}
	s.sent, s.kind = true, response
	switch {
	case status == http.StatusSwitchingProtocols:
		s.kind = upgrade
	case s.tunneled && status == http.StatusOK:
		s.kind = webSocket
	case strings.HasPrefix(strings.TrimSpace(header.Get("Content-Type")), "text/event-stream"):
		s.kind = events
	}
	if s.writes {
		s.sentAt = now()
	}
	if s.doomed {
		time.AfterFunc(grace, func() { s.hint(false) })
	}
	return true
}

// Ended returns why the stream was ended; nil if it was not.
func (s *Stream) Ended() *Ended {
	if !s.killed.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Cut reports whether the response of an ended stream was cut off: the connection
// must not look as if it was complete.
func (s *Stream) Cut() bool {
	if !s.killed.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent && !s.kind.upgraded()
}

// Unread reports whether a part of the request may not have been read: the connection
// is of no use for another.
func (s *Stream) Unread() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readPast || !s.arrived.Load()
}

// Leave ends the stream: its handler returns. Nothing of its request or response is
// touched afterwards.
func (s *Stream) Leave() {
	if s.state == unknown {
		return
	}
	s.remove()
	if s.tunneled {
		s.socket.leave()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == open {
		s.cancel()
	}
	s.state = done
	if s.interrupt != nil {
		s.interrupt.Stop()
	}
	if s.killed.Load() {
		close(s.left)
		telemetry.StreamEnded(now() - s.noticed)
	}
}

// body is the body of the request.
type body Stream

// Read notes when the request has arrived. The error by which an ended stream is
// interrupted is that of a client that has gone: for any other, a proxy would take
// its upstream for broken.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if n > 0 && b.tunneled {
		b.socket.received(p[:n])
	}
	switch {
	case errors.Is(err, io.EOF):
		b.arrived.Store(true)
	case err != nil && b.killed.Load():
		err = context.Canceled
	}
	return n, err
}

// Close closes the body.
func (b *body) Close() error { return b.body.Close() }
