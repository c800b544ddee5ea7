package streams

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// xconnect lets x/net/http2 take the extended CONNECT.
const xconnect = "GODEBUG=http2xconnect=1"

// TestAWebSocketInHTTP2And3EndsWithItsSession runs itself in a process in which HTTP/2
// has WebSockets.
func TestAWebSocketInHTTP2And3EndsWithItsSession(t *testing.T) {
	if "GODEBUG="+os.Getenv("GODEBUG") != xconnect {
		command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		command.Env = append(os.Environ(), xconnect)
		if out, err := command.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	database := standardapp.NewDatabase(t)
	standardapp.InstallTriggers(t, standardapp.Server.DSN(database))
	for protocol, open := range map[string]func(*testing.T, client, http.Header) io.ReadWriteCloser{"h2 TLS": tunnel2, "h3": tunnel3} {
		t.Run(protocol, func(t *testing.T) {
			app := newStreamsApp(t, (*httptest.Server).Start)
			c := startFor(t, protocol, "log", "encode", "stale_session", "reverse_proxy "+app.Listener.Addr().String())
			user := "of " + protocol
			standardapp.Execute(t, database, fmt.Sprintf(`insert into "User" values ('%s'), ('%[1]s, silent'), ('%[1]s, in a frame')`, user))
			connect := func(subject string) io.ReadWriteCloser {
				conn := open(t, c, http.Header{"Cookie": {standardapp.Session(t, subject)}, "Sec-Websocket-Version": {"13"}})
				<-app.arrived
				echo(t, conn, "hello")
				return conn
			}
			gone, silent, half, live := connect(user), connect(user+", silent"), connect(user+", in a frame"), connect("live")
			if _, err := half.Write(frameOf(1, []byte("half"))[:8]); err != nil {
				t.Fatal(err)
			}
			standardapp.Execute(t, database, fmt.Sprintf(`delete from "User" where id like '%s%%'`, user))
			const reason = "The session has ended."
			got := make([]byte, 4+len(reason))
			if _, err := io.ReadFull(gone, got); err != nil || got[0] != 0x88 || binary.BigEndian.Uint16(got[2:]) != 1008 || string(got[4:]) != reason {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := gone.Write(frameOf(8, got[2:4])); err != nil {
				t.Error(err)
			}
			for _, conn := range []io.ReadWriteCloser{gone, silent, half} {
				if _, err := io.Copy(io.Discard, conn); err != nil && conn == gone {
					t.Errorf("it ends with %v", err)
				}
				<-app.ended
			}
			echo(t, live, "still there")
		})
	}
}

// frameOf returns a frame of a client.
func frameOf(opcode byte, payload []byte) []byte {
	return append([]byte{0x80 | opcode, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...) // masked with zeros
}

// echo sends a text, and reads it back.
func echo(t *testing.T, conn io.ReadWriter, text string) {
	t.Helper()
	if _, err := conn.Write(frameOf(1, []byte(text))); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2+len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got[2:]) != text {
		t.Fatalf("%q, %v", got, err)
	}
}

// tunnel2 opens a WebSocket in HTTP/2 (RFC 8441).
func tunnel2(t *testing.T, c client, header http.Header) io.ReadWriteCloser {
	t.Helper()
	dial := func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
		config := c.http.Transport.(*http.Transport).TLSClientConfig.Clone()
		config.NextProtos = []string{"h2"}
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, address)
	}
	var transport http.RoundTripper = &http2.Transport{DialTLSContext: dial} //nolint:staticcheck // net/http sends no pseudo header of others
	reader, writer := io.Pipe()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodConnect, c.base+"/socket", reader)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	request.Header[":protocol"] = []string{"websocket"} //nolint:canonicalheader // a pseudo header
	response, err := transport.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	t.Cleanup((&http.Client{Transport: transport}).CloseIdleConnections)
	conn := &tunneled{response.Body, writer, func() { _ = writer.Close(); _ = response.Body.Close() }}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// tunnel3 opens a WebSocket in HTTP/3 (RFC 9220).
func tunnel3(t *testing.T, c client, header http.Header) io.ReadWriteCloser {
	t.Helper()
	config := c.http.Transport.(*http3.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{http3.NextProtoH3}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	conn, err := quic.DialAddr(ctx, c.base[len("https://"):], config, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	stream, err := (&http3.Transport{}).NewClientConn(conn).OpenRequestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodConnect, c.base+"/socket", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header, request.Proto = header, "websocket"
	if err := stream.SendRequestHeader(request); err != nil {
		t.Fatal(err)
	}
	response, err := stream.ReadResponse()
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	return &tunneled{stream, stream, func() { _ = stream.Close() }}
}

// tunneled is a WebSocket in a stream.
type tunneled struct {
	io.Reader
	io.Writer
	close func()
}

func (c *tunneled) Close() error { c.close(); return nil }
