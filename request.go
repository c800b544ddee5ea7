package stalesession

import (
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/streams"
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
	marker    answer.Marker    // read for result.marks
	header    answer.HeaderWriter
	stream    streams.Stream
	answers   bool  // a stale session is answered
	replaced  bool  // an answer has replaced the app's
	failure   error // of that
}

// release releases the validator. A response that streams for hours must not keep
// the connections of a replaced configuration open.
func (x *request) release() {
	if x.lease != nil {
		x.lease.Release()
		x.lease = nil
	}
}

// end ends what pass has begun.
func (x *request) end() {
	x.release()
	x.stream.Leave()
}

// pass passes the request to the app, and intercepts the response.
func (x *request) pass(w http.ResponseWriter, next caddyhttp.Handler) error {
	x.header.ResponseWriter, x.header.Interceptor = x.open(w), x
	err := next.ServeHTTP(&x.header, x.r)
	x.header.Done()
	switch {
	case x.replaced:
		return x.failure
	case x.stream.Cut():
		panic(http.ErrAbortHandler)
	}
	return err
}

// Intercept implements answer.Interceptor. It answers in place of the app if the
// stream has ended meanwhile.
func (x *request) Intercept(header http.Header, status int) bool {
	defer x.release()
	if x.stream.Ended() == nil && !x.check.Braked && x.inspect(header, status) {
		return true
	}
	if x.stream.Send(status, header) {
		return false
	}
	x.answerEnded(header)
	return true
}

// inspect removes a session from the response that has become stale since the request,
// and clears a stripped one. It replaces a 5xx response to a session that has become
// stale, and reports whether it did.
func (x *request) inspect(header http.Header, status int) bool {
	h, r := x.handler, x.r
	if h.responder.Reroute(x.header.ResponseWriter, r, status) {
		return true
	}
	if h.rules.SignsIn(r) {
		if to := answer.LeadsInside(r, header, status); to != "" {
			h.reporter.LedInside(to)
		}
	}
	h.auth.Learn(r.Method, answer.Requested(r).Path, header)
	h.responder.Allows(r, header, status)
	failed := status >= http.StatusInternalServerError && x.check.Verdict == verdict.Live
	if len(header["Set-Cookie"]) == 0 && !x.check.Strip && !failed {
		return false
	}
	if x.lease == nil {
		x.validator, x.lease = h.acquire()
	}
	v := x.validator
	x.wait.Set(r.Context(), time.Now().Add(v.timeout)) // again, after the app's answer
	defer x.wait.End()
	if failed && x.rescue(header) {
		return true
	}
	var cleared []string
	if x.check.Strip { // what the app sets is a new session
		cleared = x.check.Ended
	}
	var set session.Session
	v.reader.ReadResponse(header, x.renewable(), &set)
	v.measure(&x.session, &set)
	if len(set.Tokens) > 0 {
		if names, dropped := x.guard(header, &set); dropped {
			cleared = slices.Concat(names, cleared)
			set = session.Session{}
			v.reader.ReadResponse(header, x.renewable(), &set)
		} else if h.rules.SigningIn(r) || len(x.sent()) == 0 {
			telemetry.SignedIn()
		}
	}
	ended := answer.Ended{Names: cleared, Beside: x.check.Beside}
	if len(cleared)+len(ended.Beside) > 0 || x.check.Verdict == verdict.Stale {
		ended.Marks, ended.Marker = x.marks, x.marker
	}
	if len(ended.Beside) > 0 {
		ended.Live = x.check.Session.Tokens[0].Mark()
	}
	if len(set.Tokens) > 0 {
		h.responder.Learn(header, func(name string) bool { return slices.Contains(set.Names, name) })
	}
	for i := range set.Tokens {
		h.responder.Keeps(r, header, set.Tokens[i].Names, set.Tokens[i].Mark())
	}
	h.responder.Clear(header, r, ended, func(name string) bool { return slices.Contains(set.Names, name) })
	return false
}

// guard removes what is stale from the session that a response sets. It reports
// whether anything was, and returns the names of the cookies to clear then.
func (x *request) guard(header http.Header, set *session.Session) (cleared []string, dropped bool) {
	v := x.validator
	sent := x.sent()
	died := v.judgeAgain(&x.wait, sent, time.Time{})
	signingIn := x.handler.rules.SigningIn(x.r)
	judge := func(tokens []session.Token) []verdict.Judgement {
		judgements := v.judgeAgain(&x.wait, tokens, time.Time{})
		if !signingIn {
			spread(judgements, died)
		}
		return judgements
	}
	judgements := judge(set.Tokens)
	check := verdict.Whole(set, judgements)
	if !check.Strip {
		return nil, false
	}
	read := func(header http.Header, s *session.Session) { v.reader.ReadResponse(header, x.renewable(), s) }
	stale := judgements[slices.IndexFunc(judgements, func(j verdict.Judgement) bool { return j.Verdict == verdict.Stale })]
	rest := verdict.Separate(v.reader, v.reader.Fields(header), judgements, &check, read, judge)
	delete(header, "Set-Cookie")
	if lines := rest["Set-Cookie"]; lines != nil {
		header["Set-Cookie"] = lines
	}
	x.handler.reporter.Dropped(x.r, stale)
	ended := x.check.Ended
	if len(sent) > 0 {
		ended = slices.Concat(ended, verdict.Whole(x.check.Session, died).Ended)
	}
	// Of a name that the browser has a cookie of, that one counts: the response's
	// does not take its place.
	kept := func(name string) bool {
		return slices.Contains(x.check.Session.Names, name) && !slices.Contains(ended, name)
	}
	return slices.Concat(slices.DeleteFunc(check.Ended, kept), ended), true
}

// renewable returns the tokens of a request that its response may renew. In the
// answer to any other one, a token is a new one: somebody signs in.
func (x *request) renewable() []session.Token {
	if x.check.Verdict != verdict.Live || x.r.Method != http.MethodGet && x.r.Method != http.MethodHead || x.handler.rules.SigningIn(x.r) {
		return nil
	}
	return x.check.Session.Tokens
}

// sent returns the tokens that have reached the app.
func (x *request) sent() []session.Token {
	if x.check.Verdict == verdict.Live || x.check.Verdict == verdict.Unknown || x.check.Braked {
		return x.check.Session.Tokens
	}
	return nil
}

// rescue answers in place of the app if the session was live and has become stale.
// It reports whether it did.
func (x *request) rescue(header http.Header) bool {
	h, r, v := x.handler, x.r, x.validator
	telemetry.UpstreamFailed()
	if h.Rescue == off || h.rules.SignsIn(r) {
		return false
	}
	judgements := v.judgeAgain(&x.wait, x.sent(), time.Now())
	check := verdict.Whole(x.check.Session, judgements)
	if check.Verdict != verdict.Stale {
		return false
	}
	h.reporter.Rescued(r, check.Judgement)
	telemetry.Responded(telemetry.Response(h.responder.Kind(r)))
	v.reader.StripSetCookies(header)
	x.replace(check, judgements)
	return true
}

// replace answers in place of the app, because the session has become stale.
func (x *request) replace(check verdict.Check, judgements []verdict.Judgement) {
	ended := answer.Ended{Names: slices.Concat(check.Ended, x.check.Ended), Marks: slices.Concat(marks(x.sent(), judgements), x.marks)}
	ended.Marker = answer.ReadMarker(x.r, ended.Marks)
	x.replaced, x.failure = true, x.handler.responder.Replace(x.header.ResponseWriter, x.r, ended)
}
