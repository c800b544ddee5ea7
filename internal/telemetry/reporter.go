package telemetry

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// Reporter reports the checks of one handler: placeholders, metrics, log lines
// and events.
type Reporter struct {
	detections Detections
	subject    string
	foreign    *doubt
	nameless   *doubt
}

// NewReporter returns a reporter, to be closed. Subject is the claim that names
// the user. It is called before the events app is started.
func NewReporter(detections Detections, subject string) (*Reporter, error) {
	if detections.Events != nil {
		var err error
		if detections.emitter, err = newEmitter(detections.Events, detections.Context); err != nil {
			return nil, err
		}
		detections.emitter.listen()
	}
	return &Reporter{detections: detections, subject: subject, foreign: newDoubt(), nameless: newDoubt()}, nil
}

// Close ends what the reporter does beside requests.
func (p *Reporter) Close() {
	if p.detections.emitter != nil {
		p.detections.emitter.close()
	}
}

// Checked reports the check of a request on a kind of route.
func (p *Reporter) Checked(r *http.Request, check *verdict.Check, where string) {
	count(check.Judgement)
	if replacer, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		replacer.Map((*placeholders)(check).replace)
	}
	logAccess(r, check.Judgement)
	switch {
	case check.Braked:
		p.detections.report(r, check.Judgement, where+", held by the brake")
	case check.Verdict == verdict.Stale:
		p.detections.report(r, check.Judgement, where)
	case check.Dissent != nil:
		p.detections.report(r, *check.Dissent, "beside another session")
	}
	p.doubt(check.Session)
}

// logAccess adds the verdict to the line of the access log, where there is one.
func logAccess(r *http.Request, j verdict.Judgement) {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Logs == nil {
		return
	}
	extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if !ok {
		return
	}
	extra.Set(zap.String("stale_session", string(j.Verdict)))
	if j.Reason != "" {
		extra.Set(zap.String("stale_session_reason", string(j.Reason)))
	}
}

// Dropped reports a stale session that was taken out of a response.
func (p *Reporter) Dropped(r *http.Request, j verdict.Judgement) {
	count(j)
	Responded(Drop)
	p.detections.report(r, j, "response")
}

// Rescued reports a stale session whose request the app has failed at.
func (p *Reporter) Rescued(r *http.Request, j verdict.Judgement) {
	count(j)
	rescues.Inc()
	p.detections.report(r, j, "rescued")
}

// Ended reports what a message has ended that came to a path, or why it was not
// taken.
func (p *Reporter) Ended(path string, revoked revocation.Revocation, err error) {
	switch {
	case err != nil:
		p.detections.Logger.Warn("a message that sessions have ended was not taken", zap.String("path", path), zap.Error(err))
	case !revoked.At.IsZero():
		p.detections.Logger.Info("sessions were ended from outside", zap.String("path", path),
			zap.String("subject", revoked.Subject), zap.String("session", revoked.Session), zap.String("token", revoked.Token))
		Happened("revoked", map[string]any{"subject": revoked.Subject, "session": revoked.Session, "token": revoked.Token})
	}
}

// placeholders are what a check says, for those who ask for it.
type placeholders verdict.Check

func (c *placeholders) replace(key string) (any, bool) {
	name, ours := strings.CutPrefix(key, "http.stale_session.")
	if !ours {
		return nil, false
	}
	switch name {
	case "verdict":
		return string(c.Verdict), true
	case "reason":
		return string(c.Reason), true
	case "subject":
		return string(c.Subject), true
	}
	return nil, false
}

// doubt weighs whether sessions can be read at all.
func (p *Reporter) doubt(s *session.Session) {
	if len(s.Tokens) == 0 {
		if s.Failure == session.Undecodable {
			p.foreign.raise(func(times int64) {
				p.detections.Logger.Error("no session cookie seen so far could be read: is the secret the app's own, and are the cookie names right?",
					zap.Int64("requests", times))
			})
		}
		return
	}
	p.foreign.settle()
	if len(s.Tokens[0].Claims.Subject) > 0 {
		p.nameless.settle()
		return
	}
	p.nameless.raise(func(times int64) {
		p.detections.Logger.Error("no session token seen so far has the claim that names the user, so no session can be checked: name one that it has, as in `subject email` with `id email` for the users table",
			zap.String("subject", p.subject), zap.Int64("requests", times))
	})
}
