package logout

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

const (
	// maxBody is the longest request body, in bytes.
	maxBody = 64 << 10
	// bodyTimeout is how long the body may take to arrive.
	bodyTimeout = 10 * time.Second
	// maxUsed is how many used tokens are remembered.
	maxUsed = 100_000
)

// Endpoint accepts logout tokens at a path, each once. It is safe for concurrent
// use.
type Endpoint struct {
	// Path is its path, from the root of the site.
	Path string

	verifier         *jose.Verifier
	issuer, audience string
	endsUser         bool // a token with a sid ends all sessions of its sub
	now              func() time.Time
	bodyTimeout      time.Duration

	mu   sync.Mutex
	used map[string]time.Time // when each jti was used
}

// requestError says what is wrong with a request, which the provider must not
// repeat.
type requestError string

func (e requestError) Error() string { return string(e) }

// Revoke ends sessions. It is called once a whole request was read and is valid, so
// that nobody's slow request holds what Revoke uses.
type Revoke func(context.Context, revocation.Revocation) error

// Serve answers a request: 200 once revoke has ended the sessions, 400 if the
// request is invalid, 503 if the provider should repeat it. It returns what was
// revoked, or why nothing was.
func (e *Endpoint) Serve(w http.ResponseWriter, r *http.Request, revoke Revoke) (revocation.Revocation, error) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return revocation.Revocation{}, nil
	}
	revoked, err := e.accept(w, r, revoke)
	var invalid requestError
	switch {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case errors.As(err, &invalid):
		writeError(w, http.StatusBadRequest, "invalid_request", string(invalid))
	default:
		w.Header().Set("Retry-After", "5")
		writeError(w, http.StatusServiceUnavailable, "temporarily_unavailable", "try again later")
	}
	return revoked, err
}

func writeError(w http.ResponseWriter, status int, code, description string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": description}) // fails if the client disconnected
}

// accept ends the sessions that a request names.
func (e *Endpoint) accept(w http.ResponseWriter, r *http.Request, revoke Revoke) (revocation.Revocation, error) {
	var none revocation.Revocation
	body, err := e.readBody(w, r)
	if err != nil {
		return none, requestError("the body cannot be read, takes too long or is too long")
	}
	text, err := logoutToken(r.Header, body)
	if err != nil {
		return none, err
	}
	now := e.now()
	token, err := e.read(text, now)
	if err != nil {
		return none, err
	}
	if e.wasUsed(token.id, now) {
		return none, requestError("the logout token was used before")
	}
	if err := revoke(r.Context(), token.revocation); err != nil {
		return none, err
	}
	e.markUsed(token.id, now) // only now: the provider may repeat what failed
	return token.revocation, nil
}

// readBody reads the body of a request, which may neither be long nor take long.
func (e *Endpoint) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	control := http.NewResponseController(w)
	bounded := control.SetReadDeadline(time.Now().Add(e.bodyTimeout)) == nil
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if bounded && err == nil { // else what follows is not waited for either
		err = control.SetReadDeadline(time.Time{})
	}
	return body, err
}

// wasUsed reports whether a token was used while it was valid.
func (e *Endpoint) wasUsed(id string, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, used := e.used[id]
	return used && now.Sub(at) <= validity
}

func (e *Endpoint) markUsed(id string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.used) >= maxUsed {
		for other, at := range e.used {
			if now.Sub(at) > validity {
				delete(e.used, other)
			}
		}
	}
	if len(e.used) < maxUsed { // else the token can be used again, which ends the same sessions
		e.used[id] = now
	}
}
