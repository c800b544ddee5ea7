// Package telemetry reports what the module does, in metrics, log lines, events
// and placeholders.
package telemetry

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/signals"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// The list of metrics. It feeds Prometheus, the counters of the admin API and of
// the dashboard, their OpenAPI schema, and the table in docs/operations.md.
// The metrics belong to the process, so a reload of the configuration keeps
// them. No label holds what a client sent.
var (
	checks = counter("checks_total",
		"Number of requests whose session was checked, by verdict, reason and source of the account.", "verdict", "reason", "source")
	responses = counter("responses_total",
		"Number of actions taken on sessions, by kind: redirect, json or error (answered a stale session), scrub (stripped it from the request), drop (removed it from a response), clear (cleared it on the clear path), unavailable (answered 503 because of on_error deny).", "kind")
	rescues = counter("rescues_total",
		"Number of 5xx responses of the app that were replaced because the session had become stale.").WithLabelValues()
	upstreamErrors = counter("upstream_errors_total",
		"Number of 5xx responses of the app to requests with a live session, rescued ones included.").WithLabelValues()
	signIns = counter("sign_ins_total",
		"Number of sign-ins: responses in which the app set a session of an existing user, for somebody who had none or on the callback route.").WithLabelValues()
	streamsEnded = counter("streams_ended_total",
		"Number of streams that were ended because their session was, by kind (websocket, upgrade, events, response, or request for one without a response yet) and reason.", "kind", "reason")
	streamEndDuration = histogram("stream_end_seconds",
		"Time from the notice that a session may have ended to the end of one of its streams, in seconds.", prometheus.ExponentialBuckets(0.001, 2, 14))
	signalled = counter("signals_total",
		"Number of messages in which an identity provider asked to end sessions, by kind (backchannel_logout, global_token_revocation or shared_signals) and result: ended (or refused until later, or restored), repeated (it was applied before), nobody (it names nobody who has signed in here), ignored (it is about something else), rejected (it is invalid), failed (who it names could not be found, or what it ends not be stored).", "kind", "result")
	sessionsRemoved = counter("sessions_removed_total",
		"Number of rows removed from the sessions table, by kind: expired or orphaned.", "kind")
	lookupDuration = histogram("lookup_duration_seconds",
		"Duration of the queries that look up accounts, in seconds.", prometheus.ExponentialBuckets(0.00025, 2, 14))
	lookupSubjects = histogram("lookup_subjects",
		"Number of accounts that one query looked up.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 500})
	lookupErrors = counter("lookup_errors_total",
		"Number of account queries that failed, by class of the failure and class of the SQLSTATE.", "class", "sqlstate")
	streams = observedGauge("streams",
		"Number of requests with a session that are under way, and end when it does, by database.", "database")
	directoryStates = observedGauge("directories",
		"Number of directories (where users are looked up), by database and state: open (in use), failing (the last lookup failed), broken (the circuit breaker is open), watched (changes are noticed), notified (triggers report changes at once), blind (changes should be noticed but are not), braking (the brake is on, so no session is ended).", "database", "state")
	connections = observedGauge("connections",
		"Number of database connections for lookups, by database and state: idle or busy.", "database", "state")
	rechecks = observedCounter("rechecks_total",
		"Number of accounts looked up again because the database had changed, by database.", "database")
	epochs = observedCounter("epochs_total",
		"Number of times the users table was recreated, emptied, rewritten or restored, by database.", "database")
	notifications = observedCounter("notifications_total",
		"Number of change notifications received, by database.", "database")
	revocationLists = observedGauge("revocation_lists",
		"Number of revocation lists, by state: open (in use) or unshared (out of sync with the other nodes).", "state")
	cacheEntries = observedGauge("cache_entries",
		"Number of cached entries, by cache: accounts or tokens.", "cache")
	cacheCapacity = observedGauge("cache_capacity_bytes",
		"Memory that the caches can use, in bytes, by cache: accounts or tokens.", "cache")
	cacheHits = observedCounter("cache_hits_total",
		"Number of cache reads that found an entry, by cache: accounts or tokens.", "cache")
	cacheMisses = observedCounter("cache_misses_total",
		"Number of cache reads that found no entry, by cache: accounts or tokens.", "cache")
	cacheEvictions = observedCounter("cache_evictions_total",
		"Number of entries evicted before they expired, by cache: accounts or tokens.", "cache")
	unreadSessions = observedGauge("unread_sessions",
		"Number of names of cookies that look like sessions and that nothing reads, by what they look like: jwt, jwe, seal, supabase, signed_json or signed_id. Bearer tokens count as one name.", "kind")
	buildInfo = observedGauge("build_info",
		"Versions of the module and of Go, as labels; the value is always 1.", "version", "goversion")
)

// Label values that are known in advance start at 0. A series that appeared
// with its first event would show no increase, and alerts would miss it.
func init() {
	known := []accounts.Source{accounts.FromCache, accounts.FromDatabase, accounts.FromFallback}
	expect := func(v verdict.Verdict, r verdict.Reason, sources ...accounts.Source) {
		for _, source := range sources {
			checks.WithLabelValues(string(v), string(r), string(source))
		}
	}
	expect(verdict.Live, "", known...)
	for _, reason := range verdict.Reasons {
		expect(verdict.Stale, reason, known...)
	}
	expect(verdict.Stale, verdict.TokenRevoked, accounts.FromRevocation)
	expect(verdict.Stale, verdict.UserDisabled, accounts.FromRevocation)
	for _, v := range []verdict.Verdict{verdict.Anonymous, verdict.Invalid, verdict.Unknown} {
		expect(v, "", "")
	}
	for _, kind := range []Response{"redirect", "json", "error", Scrub, Drop, Clear, Unavailable} {
		responses.WithLabelValues(string(kind))
	}
	for _, class := range directories.Classes {
		lookupErrors.WithLabelValues(string(class), "")
	}
	for _, kind := range signals.Kinds {
		for _, result := range []string{"ended", "repeated", "nobody", "ignored", "rejected", "failed"} {
			signalled.WithLabelValues(string(kind), result)
		}
	}
	CleanedUp(0, 0)
}

// liveFromCache counts nearly all requests. It is resolved once, because finding
// a series by its labels is slow.
var liveFromCache = checks.WithLabelValues(string(verdict.Live), "", string(accounts.FromCache))

// count counts a checked session.
func count(j verdict.Judgement) {
	if j.Verdict == verdict.Live && j.Source == accounts.FromCache {
		liveFromCache.Inc()
		return
	}
	checks.WithLabelValues(string(j.Verdict), string(j.Reason), string(j.Source)).Inc()
}

// Response is a kind of action taken on a session.
type Response string

// The kinds besides those of answers to stale sessions.
const (
	Scrub       Response = "scrub"
	Drop        Response = "drop"
	Clear       Response = "clear"
	Unavailable Response = "unavailable"
)

// Responded counts an action taken on a session.
func Responded(kind Response) { responses.WithLabelValues(string(kind)).Inc() }

// UpstreamFailed counts a 5xx response of the app to a live session.
func UpstreamFailed() { upstreamErrors.Inc() }

// SignedIn counts a sign-in.
func SignedIn() { signIns.Inc() }

// CleanedUp counts rows removed from the sessions table.
func CleanedUp(expired, orphaned int64) {
	sessionsRemoved.WithLabelValues("expired").Add(float64(expired))
	sessionsRemoved.WithLabelValues("orphaned").Add(float64(orphaned))
}

// Directories observes directories.
type Directories struct{}

// Asked implements accounts.Observer.
func (Directories) Asked(subjects int, took time.Duration, err error) {
	lookupDuration.Observe(took.Seconds())
	lookupSubjects.Observe(float64(subjects))
	var failure *directories.Error
	if errors.As(err, &failure) {
		lookupErrors.WithLabelValues(string(failure.Class), failure.Code[:min(2, len(failure.Code))]).Inc()
	}
}
