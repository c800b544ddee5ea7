package caddytest

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/ports"
)

// Ask sends an API request with a session, and returns the status.
func Ask(t testing.TB, url, cookie string) int {
	t.Helper()
	return Do(t, http.MethodGet, url, http.Header{"Cookie": {cookie}}).StatusCode
}

// Answered is Ask for times when connections break: Caddy ends some with each
// reload, with and without the module. The status is then 0.
func Answered(t testing.TB, url, cookie string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Error(err)
		return 0
	}
	request.Header.Set("Cookie", cookie)
	response, err := Client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// FreePort returns a port for a server of the test.
func FreePort(t testing.TB) string {
	t.Helper()
	port, err := ports.Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// Protocols returns HTTP/1.1, or HTTP/2 without TLS.
func Protocols(two bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(!two)
	p.SetUnencryptedHTTP2(two)
	return p
}
