// Package logout takes the word of others that sessions have ended: of an OpenID
// provider (OpenID Connect Back-Channel Logout 1.0), and of whoever has the
// secret of a webhook (Standard Webhooks).
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
	// maxBody bounds what a request can say.
	maxBody = 64 << 10
	// tolerance is how far clocks may differ.
	tolerance = time.Minute
	// maxAge is how old a message can be.
	maxAge = 5 * time.Minute
	// maxSeen bounds the messages that are remembered, so that none is taken
	// twice. What is older than maxAge need not be.
	maxSeen = 100_000
)

// refusal is the answer to what is not to be believed.
type refusal struct{ why string }

func (r refusal) Error() string { return r.why }

// Source reads what a request says has ended.
type Source interface {
	// Read returns the revocation, and the id of the message. What is not to be
	// believed is a refusal.
	Read(r *http.Request, body []byte, now time.Time) (revoked revocation.Revocation, id string, err error)
}

// Endpoint is a path on which sessions are ended from outside.
type Endpoint struct {
	// Path is where it is, from the root of the site.
	Path string
	// Source reads the requests.
	Source Source
	// Now is the clock.
	Now func() time.Time

	mu   sync.Mutex
	seen map[string]time.Time
}

// New returns an endpoint.
func New(path string, source Source) *Endpoint {
	return &Endpoint{Path: path, Source: source, Now: time.Now, seen: make(map[string]time.Time)}
}

// Revoke ends sessions.
type Revoke func(context.Context, revocation.Revocation) error

// Endpoints are those of a handler.
type Endpoints []*Endpoint

// At returns the endpoint of a path, nil when there is none.
func (all Endpoints) At(path string) *Endpoint {
	for _, e := range all {
		if e.Path == path {
			return e
		}
	}
	return nil
}

// Serve answers a request: 200 once revoke has ended the sessions, 400 to what is not
// to be believed, 503 to what is to be sent again. It returns what was ended,
// and why nothing was.
func (e *Endpoint) Serve(w http.ResponseWriter, r *http.Request, revoke Revoke) (revoked revocation.Revocation, failure error) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return revoked, nil
	}
	revoked, failure = e.take(w, r, revoke)
	var refused refusal
	switch {
	case failure == nil:
		w.WriteHeader(http.StatusOK)
	case errors.As(failure, &refused):
		answer(w, http.StatusBadRequest, "invalid_request", refused.why)
	default:
		w.Header().Set("Retry-After", "5")
		answer(w, http.StatusServiceUnavailable, "temporarily_unavailable", "send it again")
	}
	return revoked, failure
}

func answer(w http.ResponseWriter, status int, code, description string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": description}) // who has gone gets no answer
}

func (e *Endpoint) take(w http.ResponseWriter, r *http.Request, revoke Revoke) (revoked revocation.Revocation, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return revoked, refusal{"the body cannot be read, or is too long"}
	}
	now := e.Now()
	revoked, id, err := e.Source.Read(r, body, now)
	if err != nil {
		return revoked, err
	}
	if e.known(id, now) {
		return revoked, refusal{"it was sent before"}
	}
	if err := revoke(r.Context(), revoked); err != nil {
		return revoked, err // it may be sent again
	}
	e.remember(id, now)
	return revoked, nil
}

func (e *Endpoint) known(id string, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, known := e.seen[id]
	return known && now.Sub(at) <= maxAge+2*tolerance
}

func (e *Endpoint) remember(id string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.seen) >= maxSeen {
		for other, at := range e.seen {
			if now.Sub(at) > maxAge+2*tolerance {
				delete(e.seen, other)
			}
		}
	}
	if len(e.seen) < maxSeen { // else it can be sent again, which ends no more than it did
		e.seen[id] = now
	}
}

// OIDC is the logout tokens of an OpenID provider.
type OIDC struct {
	// Keys verify them.
	Keys *jose.Verifier
	// Issuer and Audience are what their claims iss and aud must be, and
	// contain.
	Issuer, Audience string
	// User tells that all sessions of the user are ended, though a token names
	// one of them.
	User bool
}

// logoutEvent is what the claim events must have (section 2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// Read implements Source (section 2.6).
func (o OIDC) Read(r *http.Request, body []byte, now time.Time) (revoked revocation.Revocation, id string, err error) {
	token, err := tokenOf(r, body)
	if err != nil {
		return revoked, "", err
	}
	claims, err := o.Keys.Verify(token)
	switch {
	case errors.Is(err, jose.ErrKeysUnavailable):
		return revoked, "", err
	case err != nil:
		return revoked, "", refusal{"the logout token is not signed by a key of the provider"}
	}
	issued, ok := seconds(claims["iat"])
	expires, hasEnd := seconds(claims["exp"])
	id, _ = claims["jti"].(string)
	subject, _ := claims["sub"].(string)
	sid, _ := claims["sid"].(string)
	events, _ := claims["events"].(map[string]any)
	_, isLogout := events[logoutEvent].(map[string]any)
	_, hasNonce := claims["nonce"]
	switch {
	case claims["iss"] != o.Issuer:
		return revoked, "", refusal{"iss is not the issuer"}
	case !contains(claims["aud"], o.Audience):
		return revoked, "", refusal{"aud does not contain the audience"}
	case !ok || issued.After(now.Add(tolerance)) || now.Sub(issued) > maxAge+tolerance:
		return revoked, "", refusal{"iat is not of now"}
	case !hasEnd || expires.Before(now.Add(-tolerance)):
		return revoked, "", refusal{"exp is missing, or is over"}
	case id == "" || len(id) > revocation.MaxID:
		return revoked, "", refusal{"jti is missing"}
	case !isLogout:
		return revoked, "", refusal{"events has no back-channel logout"}
	case hasNonce:
		return revoked, "", refusal{"it has a nonce, as an ID token does"}
	case sid == "" && subject == "" || o.User && subject == "":
		return revoked, "", refusal{"neither sub nor sid tells whose session it is"}
	}
	// A session that began since, by a new sign-in, is another one.
	revoked.At = issued
	if revoked.Session = sid; sid == "" || o.User {
		revoked.Session, revoked.Subject = "", subject
	}
	return revoked, id, nil
}
