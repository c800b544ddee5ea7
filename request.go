package stalesession

import (
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// request is a request that was checked, and its response.
type request struct {
	result
	r         *http.Request
	handler   *Handler
	validator *validator
	lease     *provision.Lease // keeps the validator open; nil once released
	header    answer.HeaderWriter
	failure   error // of an answer that has replaced the app's
}

// release releases the validator. A response that streams for hours must not keep
// the connections of a replaced configuration open.
func (x *request) release() {
	if x.lease != nil {
		x.lease.Release()
		x.lease = nil
	}
}

// pass passes the request to the app, and intercepts the response.
func (x *request) pass(w http.ResponseWriter, next caddyhttp.Handler) error {
	x.header.ResponseWriter, x.header.Interceptor = w, x
	if err := next.ServeHTTP(&x.header, x.r); err != nil {
		x.header.Done()
		return err
	}
	x.header.Done()
	return x.failure
}

// Intercept implements answer.Interceptor. It removes a session from the response
// that has become stale since the request, and clears a stripped one. It replaces a
// 5xx response to a session that has become stale.
func (x *request) Intercept(header http.Header, status int) bool {
	defer x.release()
	h, r, v := x.handler, x.r, x.validator
	x.wait.Set(r.Context(), time.Now().Add(v.timeout)) // again, after the app's answer
	defer x.wait.End()
	if status >= http.StatusInternalServerError && x.rescue(header) {
		return true
	}
	if len(header["Set-Cookie"]) == 0 && !x.check.Strip {
		return false
	}
	signingIn := h.rules.SigningIn(r)
	var set session.Session
	v.reader.ReadResponse(header, x.renewable(signingIn), &set)
	v.measure(x.check.Session.At, &set)
	stale := v.stale(&x.wait, set.Tokens, time.Time{})
	sent := x.check.Ended
	if !x.check.Strip {
		sent = x.check.Session.Names
		if stale == nil && !signingIn {
			stale = v.stale(&x.wait, renewed(x.check.Session.Tokens, set.Tokens), time.Time{})
		}
	}
	switch {
	case stale != nil: // it must not reach the browser
		h.reporter.Dropped(r, *stale)
		v.reader.StripSetCookies(header)
		h.responder.Clear(header, r, slices.Concat(set.Names, sent), nil)
		return false
	case signingIn && len(set.Tokens) > 0:
		telemetry.SignedIn()
	}
	if x.check.Strip { // what the app sets is a new session
		h.responder.Clear(header, r, sent, func(name string) bool { return slices.Contains(set.Names, name) })
	}
	return false
}

// renewable returns the tokens of a request that its response may renew. In the
// answer to any other one, a token is a new one: somebody signs in.
func (x *request) renewable(signingIn bool) []session.Token {
	if signingIn || x.check.Verdict != verdict.Live || x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		return nil
	}
	return x.check.Session.Tokens
}

// rescue answers in place of the app if the session was live and has become stale.
// It reports whether it did.
func (x *request) rescue(header http.Header) bool {
	h, r, v := x.handler, x.r, x.validator
	if x.check.Verdict != verdict.Live {
		return false
	}
	telemetry.UpstreamFailed()
	if h.Rescue == off || h.rules.SignsIn(r.URL.Path) {
		return false
	}
	stale := v.stale(&x.wait, x.check.Session.Tokens, time.Now())
	if stale == nil {
		return false
	}
	h.reporter.Rescued(r, *stale)
	telemetry.Responded(telemetry.Response(h.responder.Kind(r)))
	v.reader.StripSetCookies(header)
	x.failure = h.responder.Replace(x.header.ResponseWriter, r, x.check.Session.Names)
	return true
}
