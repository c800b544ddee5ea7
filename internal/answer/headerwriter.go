package answer

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Interceptor inspects a response just before its header is sent.
type Interceptor interface {
	// Intercept may change the header. It returns true if it has answered the
	// request itself: then nothing of the response is sent.
	Intercept(h http.Header, status int) (answered bool)
}

// HeaderWriter is a ResponseWriter that calls an Interceptor once, just before
// the header of the response is sent. It buffers nothing. Set both fields, and
// call Done when the handler has returned.
type HeaderWriter struct {
	caddyhttp.ResponseWriterWrapper
	Interceptor Interceptor

	intercepted bool
	answered    bool // by the Interceptor
}

// intercept calls the Interceptor the first time, and reports whether that
// answered the request.
func (w *HeaderWriter) intercept(status int) bool {
	if !w.intercepted {
		w.intercepted = true
		w.answered = w.Interceptor.Intercept(w.Header(), status)
	}
	return w.answered
}

// Done calls the Interceptor if the handler has written nothing: then the server,
// or an error route, sends the header.
func (w *HeaderWriter) Done() { w.intercept(http.StatusOK) }

// WriteHeader sends the header. Informational headers come before that of the
// response, except for 101, which is final.
func (w *HeaderWriter) WriteHeader(status int) {
	final := status >= http.StatusOK || status == http.StatusSwitchingProtocols
	if final && w.intercept(status) || w.answered {
		return
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write sends the header, unless it was sent, and a part of the body.
func (w *HeaderWriter) Write(p []byte) (int, error) {
	if w.intercept(http.StatusOK) {
		return len(p), nil
	}
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom writes what a reader returns. It keeps sendfile in use.
func (w *HeaderWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.intercept(http.StatusOK) {
		return io.Copy(io.Discard, r)
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError sends what was written so far.
func (w *HeaderWriter) FlushError() error {
	if w.intercept(http.StatusOK) {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush is FlushError for handlers that use http.Flusher.
func (w *HeaderWriter) Flush() { _ = w.FlushError() }

// Interface guards
var (
	_ http.ResponseWriter = (*HeaderWriter)(nil)
	_ http.Flusher        = (*HeaderWriter)(nil)
	_ io.ReaderFrom       = (*HeaderWriter)(nil)
)
