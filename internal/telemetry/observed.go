package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// observed are the directories and readers in use. Their figures are sums: a
// process has one of each, as a rule.
var observed = struct {
	directories func() []*directory.Postgres
	readers     func() []*session.Reader
}{
	func() []*directory.Postgres { return nil },
	func() []*session.Reader { return nil },
}

// Observe has figures collected of the directories and readers in use.
func Observe(directories func() []*directory.Postgres, readers func() []*session.Reader) {
	observed.directories, observed.readers = directories, readers
}

// collector collects the figures of what is observed.
type collector struct{}

// figure describes a figure.
func figure(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("caddy", "stale_session", name), help, labels, nil)
}

var (
	cacheEntries   = figure("cache_entries", "Entries of the caches: what tokens say, and accounts.", "cache")
	cacheBytes     = figure("cache_capacity_bytes", "Memory that the caches can take.", "cache")
	cacheHits      = figure("cache_hits_total", "What was found in the caches.", "cache")
	cacheMisses    = figure("cache_misses_total", "What was not found in the caches.", "cache")
	cacheEvictions = figure("cache_evictions_total", "Entries that had to leave the caches before their time.", "cache")
	states         = figure("directories", "Databases that users are looked up in, by state: open (all of them), watched (changes are noticed), notified (at once), broken (away, nobody waits for it), braking (no session is ended).", "state")
	connections    = figure("connections", "Connections to the database for lookups, by state: idle or busy.", "state")
	rechecks       = figure("rechecks_total", "Accounts that were looked up because something was changed.")
	epochs         = figure("epochs_total", "How often the users table was recreated, emptied, rewritten or restored.")
	notifications  = figure("notifications_total", "Notifications of changes that have arrived.")
)

// Describe implements prometheus.Collector.
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{cacheEntries, cacheBytes, cacheHits, cacheMisses, cacheEvictions, states, connections, rechecks, epochs, notifications} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...)
	}
	caches := make(map[string]cache.Stats)
	for _, reader := range observed.readers() {
		caches["tokens"] = sum(caches["tokens"], reader.Stats())
	}
	in := map[string]float64{"open": 0, "watched": 0, "notified": 0, "broken": 0, "braking": 0}
	var rechecked, changed, heard uint64
	var idle, busy int32
	for _, d := range observed.directories() {
		s := d.Stats()
		caches["accounts"] = sum(caches["accounts"], s.Accounts)
		for state, holds := range map[string]bool{
			"open": true, "watched": s.Watching, "notified": s.Notified, "broken": s.Broken, "braking": s.Braking,
		} {
			if holds {
				in[state]++
			}
		}
		idle, busy = idle+s.Connections-s.Busy, busy+s.Busy
		rechecked, changed, heard = rechecked+s.Rechecked, changed+s.Epochs, heard+s.Notifications
	}
	for name, s := range caches {
		gauge(cacheEntries, float64(s.Entries), name)
		gauge(cacheBytes, float64(s.Bytes), name)
		counter(cacheHits, float64(s.Hits), name)
		counter(cacheMisses, float64(s.Misses), name)
		counter(cacheEvictions, float64(s.Evictions), name)
	}
	for state, n := range in {
		gauge(states, n, state)
	}
	gauge(connections, float64(idle), "idle")
	gauge(connections, float64(busy), "busy")
	counter(rechecks, float64(rechecked))
	counter(epochs, float64(changed))
	counter(notifications, float64(heard))
}

func sum(a, b cache.Stats) cache.Stats {
	return cache.Stats{Entries: a.Entries + b.Entries, Bytes: a.Bytes + b.Bytes, Hits: a.Hits + b.Hits, Misses: a.Misses + b.Misses, Evictions: a.Evictions + b.Evictions}
}
