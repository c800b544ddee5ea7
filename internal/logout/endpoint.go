package logout

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/signals"
)

// maxUsed is how many used tokens are remembered.
const maxUsed = 100_000

// Endpoint accepts logout tokens at a path, each once. It is safe for concurrent
// use.
type Endpoint struct {
	// Path is its path, from the root of the site.
	Path string

	verifier         *jose.Verifier
	issuer, audience string
	algorithms       []string
	accounts         identities.Accounts
	endsUser         bool // a token with a sid ends all sessions of its sub
	lasting          bool // sessions say when their user signed in
	now              func() time.Time
	bodyTimeout      time.Duration

	mu   sync.Mutex
	used map[string]time.Time // when each jti was used
}

// requestError says what is wrong with a request, which the provider must not
// repeat.
type requestError string

func (e requestError) Error() string { return string(e) }

// IsInvalid reports whether an error of Serve says that the request is invalid. Any other
// says that it could not be served.
func IsInvalid(err error) bool {
	var invalid requestError
	return errors.As(err, &invalid) || errors.Is(err, identities.ErrNotAllowed)
}

// Site is where sessions end.
type Site struct {
	// Users finds users by their accounts at the provider; nil if that is not possible.
	Users identities.Users
	// Revoke ends sessions.
	Revoke func(context.Context, revocation.Revocation) error
}

// Open returns the site, and what releases it. It is called once a whole request was
// read and is valid, so that nobody's slow request holds what the site uses.
type Open func() (site Site, release func())

// Serve answers a request: 200 once the sessions have ended, also if there is no such
// user here, 400 if the request is invalid, 503 if the provider should repeat it. It
// returns what was revoked, nothing for a user who is not known, or why nothing was.
func (e *Endpoint) Serve(w http.ResponseWriter, r *http.Request, open Open) ([]revocation.Revocation, error) {
	if !signals.IsPost(w, r) {
		return nil, requestError("the method is not POST")
	}
	revoked, err := e.accept(w, r, open)
	var invalid requestError
	switch {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case errors.As(err, &invalid):
		writeError(w, http.StatusBadRequest, "invalid_request", string(invalid))
	case errors.Is(err, identities.ErrNotAllowed):
		writeError(w, http.StatusBadRequest, "invalid_request", "sub names no user here: sid is required")
	default:
		w.Header().Set("Retry-After", "5")
		writeError(w, http.StatusServiceUnavailable, "temporarily_unavailable", "try again later")
	}
	return revoked, err
}

func writeError(w http.ResponseWriter, status int, code, description string) {
	signals.WriteJSON(w, status, map[string]string{"error": code, "error_description": description})
}

// accept ends the sessions that a request names.
func (e *Endpoint) accept(w http.ResponseWriter, r *http.Request, open Open) ([]revocation.Revocation, error) {
	body, err := signals.ReadBody(w, r, e.bodyTimeout)
	if err != nil {
		return nil, requestError("the body cannot be read, takes too long or is too long")
	}
	text, err := logoutToken(r.Header, body)
	if err != nil {
		return nil, err
	}
	now := e.now()
	token, err := e.read(text, now)
	if err != nil {
		return nil, err
	}
	if e.wasUsed(token.id, now) {
		return nil, requestError("the logout token was used before")
	}
	site, release := open()
	defer release()
	revoked, err := e.revocations(r.Context(), token, site.Users)
	if err != nil {
		return nil, err
	}
	for _, one := range revoked {
		if err := site.Revoke(r.Context(), one); err != nil {
			return nil, err
		}
	}
	e.markUsed(token.id, now) // only now: the provider may repeat what failed
	return revoked, nil
}

// revocations returns what ends the sessions that a token names; none if it names a user
// who is not known.
func (e *Endpoint) revocations(ctx context.Context, t token, users identities.Users) ([]revocation.Revocation, error) {
	if t.sid != "" {
		return []revocation.Revocation{{Session: t.sid, At: t.endedUpTo}}, nil
	}
	subjects, err := e.accounts.Find(ctx, users, t.sub)
	var all []revocation.Revocation
	for _, subject := range subjects {
		all = append(all, revocation.Revocation{Subject: subject, At: t.endedUpTo})
	}
	return all, err
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
