package answer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/coder/websocket"
)

// interceptor is a function as an Interceptor.
type interceptor func(h http.Header, status int) bool

func (i interceptor) Intercept(h http.Header, status int) bool { return i(h, status) }

// serve runs a handler behind a HeaderWriter on a real server, in HTTP/1.1 or
// HTTP/2, and returns the statuses that were intercepted.
func serve(t *testing.T, two bool, handler http.HandlerFunc) (*httptest.Server, *[]int) {
	t.Helper()
	var statuses []int
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headed := &HeaderWriter{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, Interceptor: interceptor(func(h http.Header, status int) bool {
			statuses = append(statuses, status)
			h.Set("X-Intercepted", "yes")
			return false
		})}
		defer headed.Done()
		handler(headed, r)
	}))
	if two {
		server.EnableHTTP2 = true
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server, &statuses
}

func TestTheHeaderIsInterceptedOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		status  int
		body    string
	}{
		"nothing written": {func(http.ResponseWriter, *http.Request) {}, 200, ""},
		"a body":          {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "body") }, 200, "body"},
		"a status":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); fmt.Fprint(w, "no") }, 404, "no"},
		"no content":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 204, ""},
		"not modified":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, 304, ""},
		"flushed": {func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			fmt.Fprint(w, "late")
		}, 200, "late"},
		"flushed the old way": {func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); fmt.Fprint(w, "late") }, 200, "late"},
		"early hints": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(103)
			fmt.Fprint(w, "body")
		}, 200, "body"},
		"copied": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(strings.NewReader("copied"), 6))
		}, 200, "copied"},
		"a file": {func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }, 200, "a file"},
		"full duplex": {func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				fmt.Fprint(w, err)
			}
		}, 200, ""},
	} {
		for _, two := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %t", name, two), func(t *testing.T) {
				server, statuses := serve(t, two, c.handler)
				response, err := server.Client().Get(server.URL)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				if response.StatusCode != c.status || string(body) != c.body || response.Header.Get("X-Intercepted") != "yes" {
					t.Errorf("status %d, body %q, header %v", response.StatusCode, body, response.Header)
				}
				if len(*statuses) != 1 || (*statuses)[0] != c.status {
					t.Errorf("intercepted %v", *statuses)
				}
			})
		}
	}
}

func TestEventsArriveOneByOne(t *testing.T) {
	for _, two := range []bool{false, true} {
		next := make(chan struct{})
		server, _ := serve(t, two, func(w http.ResponseWriter, _ *http.Request) {
			for i := range 3 {
				fmt.Fprintf(w, "%d\n", i)
				_ = http.NewResponseController(w).Flush()
				<-next
			}
		})
		response, err := server.Client().Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		reader := bufio.NewReader(response.Body)
		for i := range 3 {
			if line, err := reader.ReadString('\n'); err != nil || line != fmt.Sprintf("%d\n", i) {
				t.Fatalf("event %d is %q, %v", i, line, err)
			}
			next <- struct{}{}
		}
		response.Body.Close()
	}
}

func TestAWebSocketIsInterceptedToo(t *testing.T) {
	server, statuses := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		kind, message, err := conn.Read(r.Context())
		if err == nil {
			_ = conn.Write(r.Context(), kind, message)
		}
	})
	conn, response, err := websocket.Dial(t.Context(), server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := conn.Read(t.Context()); err != nil || string(message) != "hello" {
		t.Errorf("echo %q, %v", message, err)
	}
	if response.Header.Get("X-Intercepted") != "yes" || len(*statuses) != 1 || (*statuses)[0] != 101 {
		t.Errorf("header %v, intercepted %v", response.Header, *statuses)
	}
}

func TestAHandlerCanAbort(t *testing.T) {
	server, _ := serve(t, false, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if response, err := server.Client().Get(server.URL); err == nil {
		response.Body.Close()
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestAnInterceptorCanAnswer(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"written": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, "the handler's")
			_ = http.NewResponseController(w).Flush()
			fmt.Fprint(w, " own")
		},
		"copied": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			if n, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("the handler's")); n != 13 || err != nil {
				t.Errorf("copied %d, %v", n, err)
			}
		},
		"flushed": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			w.(http.Flusher).Flush()
			w.WriteHeader(http.StatusOK)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				headed := &HeaderWriter{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
				headed.Interceptor = interceptor(func(_ http.Header, status int) bool {
					if status >= 500 {
						w.WriteHeader(http.StatusUnauthorized)
						fmt.Fprint(w, "its own")
					}
					return status >= 500
				})
				defer headed.Done()
				handler(headed, r)
			}))
			defer server.Close()
			response, err := http.Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != http.StatusUnauthorized || string(body) != "its own" {
				t.Errorf("status %d, %q, %v", response.StatusCode, body, err)
			}
		})
	}
}

func BenchmarkHeaderWriter(b *testing.B) {
	recorder := httptest.NewRecorder()
	nothing := interceptor(func(http.Header, int) bool { return false })
	b.ReportAllocs()
	for b.Loop() {
		w := &HeaderWriter{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: recorder}, Interceptor: nothing}
		w.WriteHeader(http.StatusOK)
		w.Done()
	}
}
