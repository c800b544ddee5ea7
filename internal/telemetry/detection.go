package telemetry

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// detected is the name of the event of a detection.
const detected = "detected"

// How many bytes are logged of a subject, which comes from a token, or a method, and
// of the host and path of a request: they can be long, and the feed keeps them in
// memory.
const (
	maxSubject = 128
	maxAddress = 2048
)

// Detections reports stale sessions to the log and as events.
type Detections struct {
	// Logger logs one line for each detection.
	Logger *zap.Logger
	// Events is Caddy's events app; nil for no events.
	Events *caddyevents.App
	// Context is the handler's; it is the origin of the events.
	Context caddy.Context
	// Mode is the mode of the handler: enforce or observe.
	Mode string

	emitter *emitter // nil without Events
}

// report reports the stale session of a request. Where is the kind of route, or
// how else the session was found.
func (d Detections) report(r *http.Request, j verdict.Judgement, where string) {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	fields := []zap.Field{
		zap.String("reason", string(j.Reason)),
		zap.String("subject", truncate(string(j.Subject), maxSubject)),
		zap.String("method", truncate(r.Method, maxSubject)),
		zap.String("host", truncate(r.Host, maxAddress)),
		zap.String("uri", truncate(r.URL.EscapedPath(), maxAddress)), // not the query, which can hold secrets
		zap.String("client_ip", ip),
		zap.String("source", string(j.Source)),
		zap.String("where", where),
		zap.String("mode", d.Mode),
	}
	d.Logger.Warn("stale session detected", fields...)
	feed.addFields(detected, fields)
	if e := runningEmitter(d.emitter); e != nil && detectionLimit.Allow() {
		e.emit(detected, detailsOf(fields))
	}
}

// truncate shortens a text to a length in bytes. It copies it: a method or a
// path is a part of a request line, which would stay in memory with it.
func truncate(text string, length int) string {
	if len(text) > length {
		return text[:length] + "…"
	}
	return strings.Clone(text)
}
