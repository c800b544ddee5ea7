package answer

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Mender looks at a response just before its header goes out.
type Mender interface {
	// Mend may change the header. When it has answered the request itself it
	// returns true: then nothing of the response goes out.
	Mend(h http.Header, status int) bool
}

// HeaderWriter is a ResponseWriter that calls a Mender once, just before the
// header of the response goes out. It buffers nothing. Set both fields, and
// call Done when the handler has returned.
type HeaderWriter struct {
	caddyhttp.ResponseWriterWrapper
	Mender Mender

	mended   bool
	answered bool // by the Mender
}

// mend calls the Mender the first time, and tells whether that has answered.
func (w *HeaderWriter) mend(status int) bool {
	if !w.mended {
		w.mended = true
		w.answered = w.Mender.Mend(w.Header(), status)
	}
	return w.answered
}

// Done calls the Mender when the handler has written nothing: the server
// writes the header, or an error route does.
func (w *HeaderWriter) Done() { w.mend(http.StatusOK) }

// WriteHeader sends the header. Informational ones go before the response's
// own, but for 101, which is it.
func (w *HeaderWriter) WriteHeader(status int) {
	final := status >= http.StatusOK || status == http.StatusSwitchingProtocols
	if final && w.mend(status) || w.answered {
		return
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write sends the header, if that was not done, and a part of the body.
func (w *HeaderWriter) Write(p []byte) (int, error) {
	if w.mend(http.StatusOK) {
		return len(p), nil
	}
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom is Write for what a reader holds; it keeps sendfile in use.
func (w *HeaderWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.mend(http.StatusOK) {
		return io.Copy(io.Discard, r)
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError sends what was written so far.
func (w *HeaderWriter) FlushError() error {
	if w.mend(http.StatusOK) {
		return nil
	}
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
