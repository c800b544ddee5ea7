// Package telemetry tells operators what the module did, and why: metrics,
// log lines and events.
package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

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

// Register makes the metrics part of a registry. Registering twice is no error.
func Register(registry *prometheus.Registry) error {
	if registry == nil {
		return nil
	}
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(checks); err != nil && !errors.As(err, &already) {
		return err
	}
	return nil
}

// count counts one check.
func count(j verdict.Judgement) {
	checks.WithLabelValues(string(j.Verdict), string(j.Reason), string(j.Source)).Inc()
}
