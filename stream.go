package stalesession

import (
	"context"
	"net/http"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/streams"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// expiryTolerance is how long after its expiry a token is still read.
const expiryTolerance = 15 * time.Second

// endsStreams reports whether streams end with their sessions.
func (h *Handler) endsStreams() bool { return h.streams != nil }

// enter makes the request known by the subjects of its session, before these are
// looked up.
func (x *request) enter() {
	if !x.handler.endsStreams() {
		return
	}
	var room [1][]byte
	if subjects := x.subjects(room[:0]); len(subjects) > 0 {
		x.stream.Enter(x.handler.streams, x.validator.accounts.String(), subjects)
	}
}

// subjects appends those of the session, as the directory spells them.
func (x *request) subjects(subjects [][]byte) [][]byte {
	for i := range x.session.Tokens {
		if subject := x.session.Tokens[i].Claims.Subject; len(subject) > 0 {
			subjects = append(subjects, x.validator.accounts.Key(subject))
		}
	}
	return subjects
}

// open begins the stream, if a session reaches the app.
func (x *request) open(w http.ResponseWriter) http.ResponseWriter {
	if !x.stream.Known() || len(x.sent()) == 0 {
		return w
	}
	if x.check.Source != accounts.FromCache { // the directory may have learned how it spells them
		x.stream.Rename(x.subjects(nil))
	}
	w, x.r = x.stream.Open(streams.Options{
		Session: x, Writer: w, Request: x.r, Began: x.session.At, Answers: x.answers, Expires: x.expires(),
	})
	return w
}

// expires returns when the tokens that have reached the app have all expired; zero for
// never.
func (x *request) expires() (at time.Time) {
	tokens := x.sent()
	for i := range tokens {
		expires := tokens[i].Claims.ExpiresAt
		if expires.IsZero() {
			return time.Time{}
		}
		if expires = expires.Add(expiryTolerance); expires.After(at) {
			at = expires
		}
	}
	return at
}

// Judge implements streams.Session, by the rules for requests. What outlives its
// configuration ends only while a handler of a later one ends streams of the same users,
// and without a hint no connections are opened for it.
func (x *request) Judge(swept bool) *streams.Ended {
	h := x.handler
	if engine := h.validator.accounts; h.lease.Ended() && (!h.streams.Ends(engine.String()) || swept && !provision.InUse(engine)) {
		return nil
	}
	v, lease := h.acquire()
	defer lease.Release()
	ctx, cancel := context.WithTimeout(context.Background(), v.timeout)
	defer cancel()
	judgements := v.held(v.judge(ctx, x.sent(), asking{now: time.Now(), aside: true}, nil))
	check := verdict.Whole(x.check.Session, judgements)
	if check.Verdict != verdict.Stale && check.Dissent == nil {
		return nil
	}
	ended := &streams.Ended{Check: check, Judgements: judgements}
	if check.Dissent != nil { // the app may act on either
		ended.Judgement, ended.Another = *check.Dissent, true
	}
	return ended
}

// Revoked implements streams.Session.
func (x *request) Revoked(list *revocation.List) bool {
	v := x.handler.validator
	if list.Users() != v.revoked.Users() {
		return false
	}
	tokens := x.sent()
	for i := range tokens {
		if v.mayRevoke(list, &tokens[i].Claims) {
			return true
		}
	}
	return false
}

// Report implements streams.Session.
func (*request) Report(kind string, why *streams.Ended, age time.Duration) {
	telemetry.EndStream(kind, why.Judgement, age)
}

// answerEnded answers in place of the app, because the session has ended meanwhile.
func (x *request) answerEnded(header http.Header) {
	h := x.handler
	if x.lease == nil {
		x.validator, x.lease = h.acquire()
	}
	telemetry.Responded(telemetry.Response(h.responder.Kind(x.r)))
	x.validator.reader.StripSetCookies(header)
	if x.r.ProtoMajor == 1 && x.stream.Unread() {
		header.Set("Connection", "close")
	}
	why := x.stream.Ended()
	x.replace(why.Check, why.Judgements)
}
