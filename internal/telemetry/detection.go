package telemetry

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// detected is the name of the event of a detection.
const detected = "detected"

// maxSubject bounds the subject in log lines and events: it is text from a
// token.
const maxSubject = 128

// Detections reports stale sessions to the log and to the events app.
type Detections struct {
	// Logger takes one line a detection.
	Logger *zap.Logger
	// Events emits an event of Caddy's for each; nil for none.
	Events *caddyevents.App
	// Context is the module's, which events need to know their origin.
	Context caddy.Context
	// Mode is what the module does about it: enforce or observe.
	Mode string

	emitter *emitter // nil without Events
}

// report reports that the session of a request is stale. Where tells on what
// kind of route, or in whose response, it was found.
func (d Detections) report(r *http.Request, j verdict.Judgement, where string) {
	subject := short(string(j.Subject))
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	d.Logger.Warn("stale session detected",
		zap.String("reason", string(j.Reason)),
		zap.String("subject", subject),
		zap.String("method", r.Method),
		zap.String("host", r.Host),
		zap.String("uri", r.URL.EscapedPath()),
		zap.String("client_ip", ip),
		zap.String("source", string(j.Source)),
		zap.String("where", where),
		zap.String("mode", d.Mode))
	details := map[string]any{
		"reason":    string(j.Reason),
		"subject":   subject,
		"method":    r.Method,
		"host":      r.Host,
		"uri":       r.URL.EscapedPath(),
		"client_ip": ip,
		"source":    string(j.Source),
		"where":     where,
		"mode":      d.Mode,
	}
	publish(detected, details)
	if e := anyEmitter(d.emitter); e != nil && detectionRate.Allow() {
		e.emit(detected, details)
	}
}

// short cuts a subject to a length fit for a log line.
func short(subject string) string {
	if len(subject) > maxSubject {
		return subject[:maxSubject] + "…"
	}
	return subject
}
