package stalesession

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/scope"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// ServeHTTP checks the session of a request before the app gets it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.mode == modeOff {
		return next.ServeHTTP(w, r)
	}
	if h.logout != nil && r.URL.Path == h.logout.Path {
		v, lease := h.acquire()
		defer lease.Release()
		revoked, err := h.logout.Serve(w, r, v.revoked.Revoke)
		h.reporter.Ended(h.logout.Path, revoked, err)
		return nil
	}
	route, err := h.rules.Of(r)
	switch {
	case err != nil:
		return err
	case route == scope.Clearing:
		var s session.Session
		h.validator.reader.Read(r.Header, &s)
		cleared, err := h.responder.ClearSession(w, r, s.Names)
		if cleared {
			telemetry.Responded(telemetry.Clear)
		}
		return err
	case route == scope.Passed:
		return next.ServeHTTP(w, r)
	case (route == scope.Guarded || route == scope.Call) && answer.Preflight(r): // browsers send no cookies with it, other clients can
		route = scope.Stripped
	}
	x := &request{handler: h, r: r}
	x.validator, x.lease = h.acquire()
	defer x.release()
	x.validator.validate(r, &x.result)
	check := &x.check
	h.reporter.Checked(r, check, route.String())
	returns := h.responder.Returns(r, x.marks)
	if returns {
		h.reporter.Returned(h.responder.Advice())
	}
	switch {
	case h.mode == modeObserve || check.Braked:
		x.release()
		return next.ServeHTTP(w, r)
	case h.ends(route, check.Verdict) && (h.RequireSession || !returns):
		telemetry.Responded(telemetry.Response(h.responder.Kind(r)))
		return h.responder.Stale(w, r, answer.Ended{Names: check.Ended, Marks: x.marks})
	case h.OnError == onErrorDeny && check.Verdict == verdict.Unknown && (route == scope.Guarded || route == scope.Call):
		telemetry.Responded(telemetry.Unavailable)
		w.Header().Set("Retry-After", "5")
		return caddyhttp.Error(http.StatusServiceUnavailable, errors.New("the session could not be checked"))
	case check.Strip:
		telemetry.Responded(telemetry.Scrub)
		for _, field := range []string{"Cookie", "Authorization"} {
			delete(r.Header, field)
			if lines := x.rest[field]; lines != nil {
				r.Header[field] = lines
			}
		}
		return x.pass(w, next)
	case len(check.Session.Tokens) == 0:
		x.release() // until the app signs somebody in
	}
	return x.pass(w, next)
}

// ends reports whether a request is answered because of its session, or because it
// has none.
func (h *Handler) ends(route scope.Scope, v verdict.Verdict) bool {
	switch v {
	case verdict.Stale:
		return route == scope.Guarded || route == scope.Call
	case verdict.Anonymous, verdict.Invalid:
		return route == scope.Guarded && h.RequireSession
	}
	return false
}
