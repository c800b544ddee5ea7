package answer

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// HeaderWriter is a ResponseWriter that calls a function once, just before the
// header of the response goes out. It buffers nothing.
type HeaderWriter struct {
	*caddyhttp.ResponseWriterWrapper
	before func(h http.Header, status int)
}

// OnHeader returns a HeaderWriter on w. Call Done when the handler has
// returned.
func OnHeader(w http.ResponseWriter, before func(h http.Header, status int)) *HeaderWriter {
	return &HeaderWriter{&caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, before}
}

// call calls the function the first time.
func (w *HeaderWriter) call(status int) {
	if before := w.before; before != nil {
		w.before = nil
		before(w.Header(), status)
	}
}

// Done calls the function when the handler has written nothing: the server
// writes the header, or an error route does.
func (w *HeaderWriter) Done() { w.call(http.StatusOK) }

// WriteHeader sends the header. Informational ones go before the response's
// own, but for 101, which is it.
func (w *HeaderWriter) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		w.call(status)
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write sends the header, if that was not done, and a part of the body.
func (w *HeaderWriter) Write(p []byte) (int, error) {
	w.call(http.StatusOK)
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom is Write for what a reader holds; it keeps sendfile in use.
func (w *HeaderWriter) ReadFrom(r io.Reader) (int64, error) {
	w.call(http.StatusOK)
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError sends what was written so far.
func (w *HeaderWriter) FlushError() error {
	w.call(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush is FlushError for handlers that only know http.Flusher.
func (w *HeaderWriter) Flush() { _ = w.FlushError() }

// Interface guards
var (
	_ http.ResponseWriter = (*HeaderWriter)(nil)
	_ http.Flusher        = (*HeaderWriter)(nil)
	_ io.ReaderFrom       = (*HeaderWriter)(nil)
)
