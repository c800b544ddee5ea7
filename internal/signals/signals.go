// Package signals ends sessions when somebody outside says so: an OpenID provider by
// Back-Channel Logout, an identity provider or a script by Global Token Revocation, a
// transmitter of Shared Signals.
package signals

import (
	"context"
	"net/http"

	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// Endpoint accepts signals at a path. It is safe for concurrent use.
type Endpoint interface {
	// Kind is that of its signals.
	Kind() Kind
	// At is its path, from the root of the site.
	At() string
	// Serve answers a request. It calls acquire only once a whole request was read and
	// is valid, so that nobody's slow request holds what acquire returns.
	Serve(w http.ResponseWriter, r *http.Request, acquire Acquire) Result
}

// Kind is a kind of signals, as the option and the metric signals_total name it.
type Kind string

// The kinds.
const (
	BackchannelLogout Kind = "backchannel_logout"
	Revocation        Kind = "global_token_revocation"
	Shared            Kind = "shared_signals"
)

// Kinds are all kinds.
var Kinds = []Kind{BackchannelLogout, Revocation, Shared}

// Acquire returns what signals act on, until release is called.
type Acquire func() (to Target, release func())

// Target is what signals act on.
type Target struct {
	// Users finds the app's users; nil if they are where they cannot be found.
	Users identities.Users
	// Exists reports whether there is a user with an id.
	Exists func(ctx context.Context, id string) (bool, error)
	// Sessions are the sessions that were revoked.
	Sessions *revocation.List
}

// Result is what a signal has led to.
type Result struct {
	// Revoked is what was revoked, blocked or restored, by now or before.
	Revoked []revocation.Revocation
	// Again reports whether the signal had come before, and changed nothing.
	Again bool
	// Ignored says why a valid signal has changed nothing.
	Ignored string
	// NotFound reports whether it has changed nothing because the app has no such user.
	NotFound bool
	// Attention reports whether Ignored needs somebody's attention.
	Attention bool
	// Err is why a signal was refused, or could not be applied.
	Err error
	// Refused reports whether Err is the sender's fault.
	Refused bool
}
