package streams

import (
	"bufio"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// hijackable is the writer of a server whose connection can be taken over.
type hijackable struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// upgraded returns a stream whose connection was taken over, the app's end of that
// connection, and the client's.
func upgraded(t *testing.T, g *Registry, j *judged, protocol string) (s *Stream, app, client net.Conn) {
	t.Helper()
	server, client := net.Pipe()
	r := get()
	r.Header.Set("Upgrade", protocol)
	s = new(Stream)
	s.Enter(g, names("user"))
	w, _ := s.Open(Options{Session: j, Writer: hijackable{httptest.NewRecorder(), server}, Request: r, Began: time.Now()})
	app, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Fatal(err)
	}
	return s, app, client
}

// TestAWebSocketIsClosedBetweenFrames ends WebSockets at every moment of what the app
// sends, in pieces of any size.
func TestAWebSocketIsClosedBetweenFrames(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			g, j := NewRegistry(), new(judged)
			s, app, client := upgraded(t, g, j, "websocket")
			defer s.Leave()
			var sent []byte
			for len(sent) < 2000 {
				sent = append(sent, frame(1, []int{0, 5, 125, 126, 400}[random.IntN(5)], false)...)
			}
			var pieces [][]byte
			for piece := range chunks(sent, 1+random.IntN(300)) {
				pieces = append(pieces, append([]byte(nil), piece...))
			}
			at := random.IntN(len(pieces))
			go func() {
				for i, piece := range pieces {
					if i == at {
						j.stale.Store(true)
						g.Changed("users", []byte("user"))
						if random.IntN(2) == 0 {
							synctest.Wait()
						}
					}
					if n, err := app.Write(piece); err != nil || n != len(piece) {
						t.Errorf("seed %d: %d of %d bytes, %v", seed, n, len(piece), err)
						return
					}
				}
			}()
			var followed frames
			reader := bufio.NewReader(client)
			for !followed.closed {
				b, err := reader.ReadByte()
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				followed.follow([]byte{b})
			}
			// The client answers, and the app gets that.
			go func() { _, _ = client.Write(frame(opClose, 2, true)) }()
			answer := make([]byte, 8)
			if _, err := io.ReadFull(app, answer); err != nil || answer[0]&0x0f != opClose {
				t.Errorf("seed %d: the app got %v, %v", seed, answer, err)
			}
			if _, err := reader.ReadByte(); err == nil {
				t.Errorf("seed %d: something follows the close frame", seed)
			}
		})
	}
}

// TestHowAnUpgradedConnectionEnds tells what the client reads, and after how long the
// connection is closed.
func TestHowAnUpgradedConnectionEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		protocol string
		first    []byte        // from the app, before
		answers  bool          // the client does
		expires  bool          // it was the token
		code     uint16        // of the close frame, 0 for none
		closed   time.Duration // afterwards
	}{
		"a client that answers":         {"websocket", frame(1, 5, false), true, false, policyViolation, afterClose},
		"a client that does not":        {"WebSocket", nil, false, false, policyViolation, maxClose},
		"the app has not ended a frame": {"websocket", frame(1, 5, false)[:4], false, false, 0, maxClose},
		"the app has closed it":         {"websocket", frame(opClose, 2, false), true, false, 0, afterClose},
		"the token has expired":         {"websocket", nil, true, true, goingAway, afterClose},
		"another protocol":              {"tcp", []byte("hello"), false, false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g, j := NewRegistry(), new(judged)
				s, app, client := upgraded(t, g, j, c.protocol)
				defer s.Leave()
				go func() { _, _ = app.Write(c.first) }()
				if _, err := io.ReadFull(client, make([]byte, len(c.first))); err != nil {
					t.Fatal(err)
				}
				if c.expires {
					s.expires = now() - time.Second
				} else {
					j.stale.Store(true)
				}
				began := time.Now()
				g.Changed("users", []byte("user"))
				if c.code != 0 {
					got := make([]byte, 4+len(closeReason))
					if _, err := io.ReadFull(client, got); err != nil || binary.BigEndian.Uint16(got[2:]) != c.code || string(got[4:]) != closeReason {
						t.Errorf("%q, %v", got, err)
					}
				}
				go func() { _, _ = io.Copy(io.Discard, app) }() // to the app
				synctest.Wait()
				if c.answers {
					if _, err := client.Write(frame(opClose, 2, true)); err != nil {
						t.Error(err)
					}
				}
				if _, err := client.Read(make([]byte, 1)); err == nil {
					t.Error("more is sent")
				}
				if took := time.Since(began); took != c.closed {
					t.Errorf("closed after %s, want %s", took, c.closed)
				}
			})
		})
	}
}

// TestAConnectionIsNotTakenOverOnceItsSessionHasEnded although the app has agreed to
// upgrade it.
func TestAConnectionIsNotTakenOverOnceItsSessionHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, j := NewRegistry(), new(judged)
		server, client := net.Pipe()
		defer client.Close()
		r := get()
		r.Header.Set("Upgrade", "websocket")
		s := new(Stream)
		s.Enter(g, names("user"))
		w, _ := s.Open(Options{Session: j, Writer: hijackable{httptest.NewRecorder(), server}, Request: r, Began: time.Now()})
		defer s.Leave()
		s.Send(http.StatusSwitchingProtocols, nil)
		j.stale.Store(true)
		g.Changed("users", nil)
		synctest.Wait()
		if _, _, err := http.NewResponseController(w).Hijack(); err == nil {
			t.Error("it is taken over")
		}
	})
}
