package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// observed are the directories, readers and lists of ended sessions in use.
var observed = struct {
	directories func() []*accounts.Engine
	readers     func() []*session.Reader
	revoked     func() []*revocation.List
}{
	func() []*accounts.Engine { return nil },
	func() []*session.Reader { return nil },
	func() []*revocation.List { return nil },
}

// Observe has figures collected of the directories, readers and lists of ended
// sessions in use.
func Observe(engines func() []*accounts.Engine, readers func() []*session.Reader, revoked func() []*revocation.List) {
	observed.directories, observed.readers, observed.revoked = engines, readers, revoked
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
	states         = figure("directories", "How users are looked up in a database, by state: open (it is in use), failing (the last lookup failed), broken (it is away, nobody waits for it), watched (changes are noticed), notified (at once), blind (they should be and are not), braking (no session is ended).", "database", "state")
	connections    = figure("connections", "Connections to the database for lookups, by state: idle or busy.", "database", "state")
	rechecks       = figure("rechecks_total", "Accounts that were looked up because something was changed.", "database")
	epochs         = figure("epochs_total", "How often the users table was recreated, emptied, rewritten or restored.", "database")
	notifications  = figure("notifications_total", "Notifications of changes that have arrived.", "database")
	lists          = figure("revocation_lists", "Lists of sessions that were ended by hand or from outside, by state: open (it is in use), unshared (what other nodes end is not heard of, or they do not know yet of all that was ended here).", "state")
)

// Describe implements prometheus.Collector.
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{cacheEntries, cacheBytes, cacheHits, cacheMisses, cacheEvictions, states, connections, rechecks, epochs, notifications, lists} {
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
	unshared, revoked := 0, observed.revoked()
	for _, list := range revoked {
		if list.Lost() {
			unshared++
		}
	}
	gauge(lists, float64(len(revoked)), "open")
	gauge(lists, float64(unshared), "unshared")
	by, tokens := look()
	var known cache.Stats
	for database, s := range by {
		known = sum(known, s.Accounts)
		if s.in["open"] == 0 {
			continue
		}
		for state, n := range s.in {
			gauge(states, n, database, state)
		}
		gauge(connections, float64(s.Connections-s.Busy), database, "idle")
		gauge(connections, float64(s.Busy), database, "busy")
		counter(rechecks, float64(s.Rechecked), database)
		counter(epochs, float64(s.Epochs), database)
		counter(notifications, float64(s.Notifications), database)
	}
	for name, s := range map[string]cache.Stats{"accounts": known, "tokens": tokens} {
		gauge(cacheEntries, float64(s.Entries), name)
		gauge(cacheBytes, float64(s.Bytes), name)
		counter(cacheHits, float64(s.Hits), name)
		counter(cacheMisses, float64(s.Misses), name)
		counter(cacheEvictions, float64(s.Evictions), name)
	}
}

// figures are the sums of all directories of a database: with other users
// tables or caches there are several.
type figures struct {
	accounts.Stats
	in map[string]float64 // how many are in a state
}

// last is what was seen last. The counts of what was closed since are kept: a
// reload must not make a counter go back.
var last struct {
	sync.Mutex
	directories map[*accounts.Engine]accounts.Stats
	readers     map[*session.Reader]cache.Stats
	closed      map[string]accounts.Stats
	tokens      cache.Stats
}

// look returns the figures of each database, by its name, and those of the
// caches of what tokens say.
func look() (by map[string]*figures, tokens cache.Stats) {
	last.Lock()
	defer last.Unlock()
	open := make(map[*accounts.Engine]accounts.Stats)
	for _, d := range observed.directories() {
		open[d] = d.Stats()
	}
	if last.closed == nil {
		last.closed = make(map[string]accounts.Stats)
	}
	for d, s := range last.directories {
		if _, still := open[d]; !still {
			last.closed[d.String()] = add(last.closed[d.String()], accounts.Stats{
				Accounts: counts(s.Accounts), Rechecked: s.Rechecked, Epochs: s.Epochs, Notifications: s.Notifications,
			})
		}
	}
	last.directories = open
	by = make(map[string]*figures)
	for name, s := range last.closed {
		by[name] = &figures{s, make(map[string]float64)}
	}
	for d, s := range open {
		f := by[d.String()]
		if f == nil {
			f = &figures{in: make(map[string]float64)}
			by[d.String()] = f
		}
		f.Stats = add(f.Stats, s)
		for state, holds := range map[string]bool{
			"open": true, "failing": s.Failure != "", "broken": s.Broken, "watched": s.Watching,
			"notified": s.Notified, "blind": s.Blind, "braking": s.Braking,
		} {
			if f.in[state] += 0; holds {
				f.in[state]++
			}
		}
	}
	return by, lookAtReaders()
}

// lookAtReaders is look for readers. The caller holds last.
func lookAtReaders() cache.Stats {
	open := make(map[*session.Reader]cache.Stats)
	for _, r := range observed.readers() {
		open[r] = r.Stats()
	}
	for r, s := range last.readers {
		if _, still := open[r]; !still {
			last.tokens = sum(last.tokens, counts(s))
		}
	}
	last.readers = open
	all := last.tokens
	for _, s := range open {
		all = sum(all, s)
	}
	return all
}

// Tokens returns the figures of the caches of what tokens say.
func Tokens() cache.Stats {
	_, tokens := look()
	return tokens
}

// add adds the figures of two directories.
func add(a, b accounts.Stats) accounts.Stats {
	return accounts.Stats{
		Accounts: sum(a.Accounts, b.Accounts), Description: directories.Description{Connections: a.Connections + b.Connections, Busy: a.Busy + b.Busy},
		Rechecked: a.Rechecked + b.Rechecked, Epochs: a.Epochs + b.Epochs, Notifications: a.Notifications + b.Notifications,
	}
}

// counts are what is counted of a cache.
func counts(s cache.Stats) cache.Stats {
	return cache.Stats{Hits: s.Hits, Misses: s.Misses, Evictions: s.Evictions}
}

func sum(a, b cache.Stats) cache.Stats {
	return cache.Stats{Entries: a.Entries + b.Entries, Bytes: a.Bytes + b.Bytes, Hits: a.Hits + b.Hits, Misses: a.Misses + b.Misses, Evictions: a.Evictions + b.Evictions}
}
