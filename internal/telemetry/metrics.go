// Package telemetry tells what the module does: metrics, log lines, events and
// placeholders.
package telemetry

import (
	"errors"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// modulePath is how a Caddy with the module knows it.
const modulePath = "github.com/seed-4adef13c/caddy-stale-session"

// The metrics are those of the process, so that a reload of the configuration
// loses nothing. No label holds what a client has sent.
var (
	checks = prometheus.NewCounterVec(counter("checks_total",
		"Requests whose session was checked, by verdict, reason and where the account came from."), []string{"verdict", "reason", "source"})
	responses = prometheus.NewCounterVec(counter("responses_total",
		"What was done about sessions, by kind: redirect, json or error (answers to stale ones), scrub (taken off a request), drop (of a response), clear (by hand), unavailable (on_error deny)."), []string{"kind"})
	rescues = prometheus.NewCounter(counter("rescues_total",
		"Answers of the app with a 5xx status that were replaced, because the session had become stale."))
	upstreamErrors = prometheus.NewCounter(counter("upstream_errors_total",
		"Answers of the app with a 5xx status to sessions that were found live, rescued ones included."))
	signIns = prometheus.NewCounter(counter("sign_ins_total",
		"Sign-ins: sessions of users who exist that the app has set on its callback route."))
	cleaned = prometheus.NewCounterVec(counter("sessions_removed_total",
		"Rows that were removed from a table of sessions, by kind: expired or orphaned."), []string{"kind"})
	lookupSeconds = prometheus.NewHistogram(histogram("lookup_duration_seconds",
		"How long the statements took that look accounts up.", prometheus.ExponentialBuckets(0.00025, 2, 14)))
	lookupSubjects = prometheus.NewHistogram(histogram("lookup_subjects",
		"How many accounts a statement has looked up.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 500}))
	lookupErrors = prometheus.NewCounterVec(counter("lookup_errors_total",
		"Statements that failed, by class of failure and class of SQLSTATE."), []string{"class", "sqlstate"})
	buildInfo = prometheus.NewGaugeFunc(prometheus.GaugeOpts(prometheus.Opts{
		Namespace: "caddy", Subsystem: "stale_session", Name: "build_info",
		Help:        "The version of the module and of Go; always 1.",
		ConstLabels: prometheus.Labels{"version": Version(), "goversion": runtime.Version()},
	}), func() float64 { return 1 })
)

func counter(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: "caddy", Subsystem: "stale_session", Name: name, Help: help}
}

func histogram(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Namespace: "caddy", Subsystem: "stale_session", Name: name, Help: help, Buckets: buckets}
}

// Version returns the version of the module in this Caddy.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == modulePath {
		return info.Main.Version
	}
	for _, module := range info.Deps {
		if module.Path == modulePath {
			return module.Version
		}
	}
	return "unknown"
}

// Register puts the metrics into a registry of Caddy's. Each configuration has
// one of its own.
func Register(registry *prometheus.Registry) error {
	if registry == nil {
		return nil
	}
	var already prometheus.AlreadyRegisteredError
	for _, metric := range []prometheus.Collector{
		checks, responses, rescues, upstreamErrors, signIns, cleaned, lookupSeconds, lookupSubjects, lookupErrors, buildInfo, collector{},
	} {
		if err := registry.Register(metric); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// What can happen is there from the start, with 0: else the first of its kind,
// which a reset brings by the hundred, would be no increase.
func init() {
	count := func(v verdict.Verdict, r verdict.Reason, sources ...accounts.Source) {
		for _, source := range sources {
			checks.WithLabelValues(string(v), string(r), string(source))
		}
	}
	known := []accounts.Source{accounts.FromCache, accounts.FromDatabase, accounts.FromFallback}
	count(verdict.Live, "", known...)
	for _, reason := range []verdict.Reason{verdict.UserNotFound, verdict.UserDisabled, verdict.TokenPredatesAccount, verdict.ClaimMismatch} {
		count(verdict.Stale, reason, known...)
	}
	count(verdict.Stale, verdict.TokenRevoked, append(known, accounts.FromRevocation)...)
	for _, v := range []verdict.Verdict{verdict.Anonymous, verdict.Invalid, verdict.Unknown} {
		count(v, "", "")
	}
	for _, kind := range []Response{"redirect", "json", "error", Scrub, Drop, Clear, Unavailable} {
		responses.WithLabelValues(string(kind))
	}
	for _, class := range directories.Classes {
		lookupErrors.WithLabelValues(string(class), "")
	}
	CleanedUp(0, 0)
}

// liveFromCache is what nearly all requests count.
var liveFromCache = checks.WithLabelValues(string(verdict.Live), "", string(accounts.FromCache))

func count(j verdict.Judgement) {
	if j.Verdict == verdict.Live && j.Source == accounts.FromCache {
		liveFromCache.Inc()
		return
	}
	checks.WithLabelValues(string(j.Verdict), string(j.Reason), string(j.Source)).Inc()
}

// Response is a kind of what is done about a session.
type Response string

// The kinds besides those of answers to stale sessions.
const (
	Scrub       Response = "scrub"
	Drop        Response = "drop"
	Clear       Response = "clear"
	Unavailable Response = "unavailable"
)

// Responded counts what was done about a session.
func Responded(kind Response) { responses.WithLabelValues(string(kind)).Inc() }

// UpstreamFailed counts a 5xx of the app to a session that was found live.
func UpstreamFailed() { upstreamErrors.Inc() }

// SignedIn counts a sign-in.
func SignedIn() { signIns.Inc() }

// CleanedUp counts rows that were removed from a table of sessions.
func CleanedUp(expired, orphaned int64) {
	cleaned.WithLabelValues("expired").Add(float64(expired))
	cleaned.WithLabelValues("orphaned").Add(float64(orphaned))
}

// Directories observes directories.
type Directories struct{}

// Asked implements accounts.Observer.
func (Directories) Asked(subjects int, took time.Duration, err error) {
	lookupSeconds.Observe(took.Seconds())
	lookupSubjects.Observe(float64(subjects))
	var failure *directories.Error
	if errors.As(err, &failure) {
		lookupErrors.WithLabelValues(string(failure.Class), failure.Code[:min(2, len(failure.Code))]).Inc()
	}
}
