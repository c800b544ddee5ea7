package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
)

// Directory and Tokens are what figures are collected of.
type (
	// Directory is where accounts are looked up.
	Directory interface{ Stats() directory.Stats }
	// Tokens are the decoded ones.
	Tokens interface{ Stats() cache.Stats }
)

// observed are the directories and tokens in use. Its figures are sums: a
// process has one of each, as a rule.
var observed struct {
	sync.Mutex
	directories map[Directory]bool
	tokens      map[Tokens]bool
}

// Observe collects the figures of a Directory or Tokens until forget is called.
func Observe(source any) (forget func()) {
	observed.Lock()
	defer observed.Unlock()
	switch source := source.(type) {
	case Directory:
		return add(&observed.directories, source)
	case Tokens:
		return add(&observed.tokens, source)
	}
	return func() {}
}

// add adds a source to a set, and returns what removes it.
func add[T comparable](set *map[T]bool, source T) func() {
	if *set == nil {
		*set = make(map[T]bool)
	}
	(*set)[source] = true
	return func() {
		observed.Lock()
		defer observed.Unlock()
		delete(*set, source)
	}
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
	observed.Lock()
	defer observed.Unlock()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...)
	}
	caches := make(map[string]cache.Stats)
	for tokens := range observed.tokens {
		caches["tokens"] = sum(caches["tokens"], tokens.Stats())
	}
	in := map[string]float64{"open": 0, "watched": 0, "notified": 0, "broken": 0, "braking": 0}
	var rechecked, changed, heard uint64
	var idle, busy int32
	for d := range observed.directories {
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
