package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// appBody is the body of every response of the app. load.lua has it, too.
const appBody = "app\n"

// eventEvery is how often the app sends an event.
const eventEvery = 100 * time.Millisecond

// serveApp is the app behind Caddy. It prints its address and serves until ctx
// is done.
func serveApp(ctx context.Context) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, appBody) // fails only if the client disconnected
	})
	mux.HandleFunc("/admin/events", sendEvents)
	mux.HandleFunc("/admin/quiet", sendEvent)
	mux.HandleFunc("/admin/download", download)
	mux.HandleFunc("/admin/poll", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/admin/socket", echo)
	mux.HandleFunc("/admin/upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, " ", err)
	})
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: mux}
	context.AfterFunc(ctx, func() { _ = server.Close() }) // nobody waits for its answers any more
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// sendEvents sends server-sent events until the client disconnects.
func sendEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(w, "data: %d\n\n", i); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(eventEvery):
		}
	}
}

// sendEvent sends one server-sent event, and then nothing more.
func sendEvent(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	if _, err := io.WriteString(w, "data: 0\n\n"); err == nil && http.NewResponseController(w).Flush() == nil {
		<-r.Context().Done()
	}
}

// download sends a piece of a file now and then, for ever.
func download(w http.ResponseWriter, r *http.Request) {
	for {
		if _, err := w.Write(make([]byte, 1<<10)); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(eventEvery):
		}
	}
}

// echo is a WebSocket that echoes messages.
func echo(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil || conn.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}
