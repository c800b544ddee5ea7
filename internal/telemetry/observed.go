package telemetry

import (
	"runtime"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/unread"
)

// collector collects the observed metrics.
type collector struct {
	// directories, readers and lists return those in use.
	directories func() []*accounts.Engine
	readers     func() []*session.Reader
	lists       func() []*revocation.List
	streams     func() map[string]int // by directory

	mu     sync.Mutex
	seen   map[any]values // of each directory, reader and list in use at the last collection
	closed values         // the counters of those closed since: a reload must not make a counter go back
}

var observed = &collector{
	directories: func() []*accounts.Engine { return nil },
	readers:     func() []*session.Reader { return nil },
	lists:       func() []*revocation.List { return nil },
	streams:     func() map[string]int { return nil },
	closed:      make(values),
}

func init() { registry.MustRegister(observed) }

// Observe sets what the observed metrics are read from: functions that return
// the directories, token readers and revocation lists in use, and how many streams
// each directory has.
func Observe(directories func() []*accounts.Engine, readers func() []*session.Reader, lists func() []*revocation.List, streams func() map[string]int) {
	observed.directories, observed.readers, observed.lists, observed.streams = directories, readers, lists, streams
}

// series is a time series of an observed metric.
type series struct {
	metric *observedMetric
	labels [2]string // as many as the metric has
}

// values are the values of time series.
type values map[series]float64

func (v values) set(metric *observedMetric, value float64, labels ...string) {
	s := series{metric: metric}
	copy(s.labels[:], labels)
	v[s] = value
}

// add adds the values of other time series.
func (v values) add(others values) {
	for s, value := range others {
		v[s] += value
	}
}

// ofDirectory returns the values of a directory.
func ofDirectory(d *accounts.Engine) values {
	s, name := d.Stats(), d.String()
	v := ofCache("accounts", s.Accounts)
	for state, is := range map[string]bool{
		"open": true, "failing": s.Failure != "", "broken": s.Broken, "watched": s.Watching,
		"notified": s.Notified, "blind": s.Blind, "braking": s.Braking,
	} {
		v.set(directoryStates, one(is), name, state)
	}
	v.set(connections, float64(s.Connections-s.Busy), name, "idle")
	v.set(connections, float64(s.Busy), name, "busy")
	v.set(streams, 0, name)
	v.set(rechecks, float64(s.Rechecked), name)
	v.set(epochs, float64(s.Epochs), name)
	v.set(notifications, float64(s.Notifications), name)
	return v
}

// ofCache returns the values of a cache.
func ofCache(name string, s cache.Stats) values {
	v := make(values)
	v.set(cacheEntries, float64(s.Entries), name)
	v.set(cacheCapacity, float64(s.Bytes), name)
	v.set(cacheHits, float64(s.Hits), name)
	v.set(cacheMisses, float64(s.Misses), name)
	v.set(cacheEvictions, float64(s.Evictions), name)
	return v
}

// ofReader returns the values of a token reader.
func ofReader(r *session.Reader) values {
	v := ofCache("tokens", r.Stats())
	for _, found := range r.Unread() {
		v.add(values{series{metric: unreadSessions, labels: [2]string{string(found.Kind)}}: 1})
	}
	return v
}

// ofList returns the values of a revocation list.
func ofList(l *revocation.List) values {
	v := make(values)
	v.set(revocationLists, 1, "open")
	v.set(revocationLists, one(l.OutOfSync()), "unshared")
	return v
}

// always returns the series that exist even when nothing is in use.
func always() values {
	v := ofCache("accounts", cache.Stats{})
	v.add(ofCache("tokens", cache.Stats{}))
	v.set(revocationLists, 0, "open")
	v.set(revocationLists, 0, "unshared")
	for _, kind := range unread.Kinds {
		v.set(unreadSessions, 0, string(kind))
	}
	v.set(buildInfo, 1, Version(), runtime.Version())
	return v
}

// one returns 1 for true and 0 for false.
func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (*collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range observedMetrics {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	for s, value := range c.values() {
		to <- prometheus.MustNewConstMetric(s.metric.desc, s.metric.kind, value, s.labels[:s.metric.labels]...)
	}
}

// values returns the sums over all that is in use: a database has several
// directories when handlers differ in users table or cache.
func (c *collector) values() values {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := make(map[any]values)
	for _, d := range c.directories() {
		open[d] = ofDirectory(d)
	}
	for _, r := range c.readers() {
		open[r] = ofReader(r)
	}
	for _, l := range c.lists() {
		open[l] = ofList(l)
	}
	for source, seen := range c.seen {
		if _, inUse := open[source]; inUse {
			continue
		}
		for s, value := range seen {
			if s.metric.kind == prometheus.CounterValue {
				c.closed[s] += value
			}
		}
	}
	c.seen = open
	all := always()
	for _, v := range open {
		all.add(v)
	}
	for directory, n := range c.streams() {
		all.set(streams, float64(n), directory)
	}
	for s, value := range c.closed {
		if _, shown := all[s]; shown { // a database that is no longer in use has no series
			all[s] += value
		}
	}
	return all
}
