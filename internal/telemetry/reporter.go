package telemetry

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/signals"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// Reporter reports what one handler does: in metrics, log lines, events and
// placeholders.
type Reporter struct {
	detections Detections
	subject    string
	undecoded  *warning
	noSubject  *warning
	notFound   *warning
	undeleted  *warning
	ledInside  *warning
	rejected   rejections
}

// NewReporter returns a reporter. Subject is the claim that names the user. The
// caller must close the reporter. It must call NewReporter before the events app
// starts.
func NewReporter(detections Detections, subject string) (*Reporter, error) {
	if detections.Events != nil {
		var err error
		if detections.emitter, err = newEmitter(detections.Events, detections.Context); err != nil {
			return nil, err
		}
		detections.emitter.open()
	}
	return &Reporter{detections: detections, subject: subject, undecoded: newWarning(), noSubject: newWarning(), notFound: newWarning(), undeleted: newWarning(), ledInside: newWarning()}, nil
}

// Close releases the reporter. Requests in flight can still report.
func (p *Reporter) Close() {
	if p.detections.emitter != nil {
		p.detections.emitter.close()
	}
}

// Checked reports that the session of a request was checked. Where is the kind
// of its route.
func (p *Reporter) Checked(r *http.Request, check *verdict.Check, where string) {
	count(check.Judgement)
	if replacer, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		replacer.Map((*placeholders)(check).replace)
	}
	logAccess(r, check.Judgement)
	switch {
	case check.Braked:
		p.detections.report(r, check.Judgement, where+", brake on")
	case check.Verdict == verdict.Stale:
		p.detections.report(r, check.Judgement, where)
	case check.Dissent != nil:
		p.detections.report(r, *check.Dissent, where+", with another session")
	}
	p.warn(check)
}

// logAccess adds the verdict to the line of the access log, if there is one.
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

// Dropped reports that a stale session was removed from a response.
func (p *Reporter) Dropped(r *http.Request, j verdict.Judgement) {
	count(j)
	Responded(Drop)
	p.detections.report(r, j, "response")
}

// Returned reports that a browser still has a session cookie that it was told to
// delete, and advice what to do about it.
func (p *Reporter) Returned(advice string) {
	p.undeleted.raise(func(requests int64) {
		p.detections.Logger.Warn("a browser still sends a stale session cookie that was cleared: "+advice, zap.Int64("requests", requests))
	})
}

// LedInside reports that the app's sign-in page redirects people to an address that
// they cannot reach.
func (p *Reporter) LedInside(address string) {
	p.ledInside.raise(func(requests int64) {
		p.detections.Logger.Error("the app sends people who sign in to its own address instead of this site's: set AUTH_URL (NEXTAUTH_URL) in the app's environment to the address of this site",
			zap.String("address", address), zap.Int64("requests", requests))
	})
}

// Rescued reports that a 5xx response of the app was replaced because the
// session had become stale.
func (p *Reporter) Rescued(r *http.Request, j verdict.Judgement) {
	count(j)
	rescues.Inc()
	p.detections.report(r, j, "rescued")
}

// Signalled reports what a signal of a kind that arrived at a path has led to.
func (p *Reporter) Signalled(kind signals.Kind, at string, result signals.Result) {
	name, path := zap.String("kind", string(kind)), zap.String("path", at)
	outcome := "ended"
	switch {
	case result.NotFound:
		outcome = "nobody"
		p.detections.Logger.Info("a signal names nobody who has signed in here", name, path)
	case result.Err != nil:
		outcome = "failed"
		if result.Refused {
			outcome = "rejected"
		}
		p.rejected.raise(result.Err, func(requests int64) {
			p.detections.Logger.Warn("signal "+outcome, name, path, zap.Error(result.Err), zap.Int64("requests", requests))
		})
	case result.Again:
		outcome = "repeated"
	case result.Ignored != "":
		outcome = "ignored"
		level := zapcore.InfoLevel
		if result.Attention {
			level = zapcore.WarnLevel
		}
		p.detections.Logger.Log(level, "a signal ends nothing: "+result.Ignored, name, path)
	}
	signalled.WithLabelValues(string(kind), outcome).Inc()
	if outcome != "ended" {
		return
	}
	for _, r := range result.Revoked {
		text := "sessions revoked by a signal"
		switch {
		case r.Restored:
			text = "a user may sign in again, by a signal"
		case r.Blocked:
			text = "a user is refused until a signal says otherwise"
		}
		p.detections.Logger.Info(text, name, path, zap.String("subject", r.Subject), zap.String("session", r.Session))
		if r.Restored {
			Publish("restored", map[string]any{"subject": r.Subject})
		} else {
			Publish("revoked", map[string]any{"subject": r.Subject, "session": r.Session, "token": r.Token})
		}
	}
}

// placeholders are the placeholders of a checked request.
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

// warn warns of what looks like a session and is not read; and as long as no session
// could be read, none names a user, or no user was found.
func (p *Reporter) warn(check *verdict.Check) {
	s := check.Session
	for _, found := range s.Unread {
		p.detections.Logger.Warn("what looks like a session is read by nothing, so it passes unchecked: "+found.Advice,
			zap.String("name", found.Name), zap.String("kind", string(found.Kind)))
	}
	if check.Guessed {
		p.notFound.raise(func(requests int64) {
			p.detections.Logger.Error("nobody was found so far by the user id in a session, so none ends: set `subject` to the place of the id that the users table has, and `id` in `users` to its column; a library whose users are in another table needs a `stale_session` of its own, with its `format` and `users`",
				zap.Int64("requests", requests))
		})
	}
	if len(s.Tokens) == 0 {
		if s.Failure == session.Undecodable {
			p.undecoded.raise(func(requests int64) {
				p.detections.Logger.Error("no session cookie could be decoded so far: is the secret the app's own, and are the cookie names right?",
					zap.Int64("requests", requests))
			})
		}
		return
	}
	p.undecoded.dismiss()
	judged := func(t session.Token) bool { return !t.Claims.AppAsks }
	named := func(t session.Token) bool { return len(t.Claims.Subject) > 0 }
	switch {
	case slices.ContainsFunc(s.Tokens, named):
		p.noSubject.dismiss()
		return
	case !slices.ContainsFunc(s.Tokens, judged): // they need none
		return
	}
	p.noSubject.raise(func(requests int64) {
		p.detections.Logger.Error("no session token so far has the claim that names the user, so sessions pass unchecked: set `subject` to a claim that they have, such as `subject email` with `id email` in `users`",
			zap.String("subject", p.subject), zap.Int64("requests", requests))
	})
}
