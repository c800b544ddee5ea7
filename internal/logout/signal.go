package logout

import (
	"net/http"

	"github.com/seed-4adef13c/caddy-stale-session/internal/signals"
)

// Signals returns the endpoint as one of several for signals.
func (e *Endpoint) Signals() signals.Endpoint { return endpoint{e} }

type endpoint struct{ *Endpoint }

// Kind implements signals.Endpoint.
func (endpoint) Kind() signals.Kind { return signals.BackchannelLogout }

// At implements signals.Endpoint.
func (e endpoint) At() string { return e.Path }

// Serve implements signals.Endpoint.
func (e endpoint) Serve(w http.ResponseWriter, r *http.Request, acquire signals.Acquire) signals.Result {
	revoked, err := e.Endpoint.Serve(w, r, func() (Site, func()) {
		to, release := acquire()
		return Site{Users: to.Users, Revoke: to.Sessions.Revoke}, release
	})
	return signals.Result{Revoked: revoked, Err: err, Refused: IsInvalid(err), NotFound: err == nil && len(revoked) == 0}
}
