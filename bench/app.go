package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// appBody is what the app answers every request with. load.lua knows it too.
const appBody = "app\n"

// serveApp is the app behind Caddy. It prints its address, and serves until
// ctx is done.
func serveApp(ctx context.Context) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, appBody) // the client is gone, if anything
	})}
	context.AfterFunc(ctx, func() { _ = server.Close() }) // nobody waits for its answers any more
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
