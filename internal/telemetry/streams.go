package telemetry

import (
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// streamEnded is the name of the event of a stream that was ended.
const streamEnded = "stream_ended"

// ExpectStreams has the count of ended streams start at 0 for some kinds and reasons.
func ExpectStreams(kinds []string, reasons []verdict.Reason) {
	for _, kind := range kinds {
		for _, reason := range reasons {
			streamsEnded.WithLabelValues(kind, string(reason))
		}
	}
}

// EndStream reports that a stream of a kind and an age is being ended, because its
// session was. The stream may be older than the configuration.
func EndStream(kind string, j verdict.Judgement, age time.Duration) {
	streamsEnded.WithLabelValues(kind, string(j.Reason)).Inc()
	fields := []zap.Field{
		zap.String("reason", string(j.Reason)),
		zap.String("subject", truncate(string(j.Subject), maxSubject)),
		zap.String("kind", kind),
		zap.Duration("age", age),
		zap.String("source", string(j.Source)),
	}
	caddy.Log().Named("http.handlers.stale_session").Info("ended a stream of a stale session", fields...)
	feed.addFields(streamEnded, fields)
	if e := runningEmitter(nil); e != nil && detectionLimit.Allow() {
		e.emit(streamEnded, detailsOf(fields))
	}
}

// StreamEnded reports that a stream has ended, so long after the notice that its
// session may have.
func StreamEnded(took time.Duration) { streamEndDuration.Observe(took.Seconds()) }
