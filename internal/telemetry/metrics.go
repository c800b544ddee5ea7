// Package telemetry tells operators what the module did, and why: metrics,
// log lines and events.
package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// checks lives as long as the process, so that a reload of the configuration
// does not set it back. Its labels come from closed sets.
var checks = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: "caddy",
	Subsystem: "stale_session",
	Name:      "checks_total",
	Help:      "Requests whose session was checked, by verdict, reason and where the account came from.",
}, []string{"verdict", "reason", "source"})

var rescues = prometheus.NewCounter(prometheus.CounterOpts{
	Namespace: "caddy",
	Subsystem: "stale_session",
	Name:      "rescues_total",
	Help:      "Answers of the app with a 5xx status that were replaced, because the session had become stale.",
})

// Register makes the metrics part of a registry. Registering twice is no error.
func Register(registry *prometheus.Registry) error {
	if registry == nil {
		return nil
	}
	var already prometheus.AlreadyRegisteredError
	for _, metric := range []prometheus.Collector{checks, rescues, collector{}} {
		if err := registry.Register(metric); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// liveFromCache is what nearly every check comes to.
var liveFromCache = checks.WithLabelValues(string(verdict.Live), "", string(directory.FromCache))

// count counts one check.
func count(j verdict.Judgement) {
	if j.Verdict == verdict.Live && j.Source == directory.FromCache {
		liveFromCache.Inc()
		return
	}
	checks.WithLabelValues(string(j.Verdict), string(j.Reason), string(j.Source)).Inc()
}
