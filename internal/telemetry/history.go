package telemetry

import (
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
)

const (
	// step is the time between two samples of a History.
	step = 5 * time.Second
	// samples is how many it keeps: those of an hour.
	samples = int(time.Hour / step)
)

// Sample is what was counted in some seconds.
type Sample struct {
	// Time is their end, Seconds how many they were.
	Time    time.Time `json:"time"`
	Seconds float64   `json:"seconds"`
	// Checks are by verdict.
	Checks map[string]float64 `json:"checks,omitempty"`
	// Lookups are statements, which have looked up Subjects accounts.
	Lookups  float64 `json:"lookups,omitempty"`
	Subjects float64 `json:"subjects,omitempty"`
	// Median and P95 are how long half and 95 of a hundred of them took at
	// most, in seconds, as far as the histogram tells.
	Median float64 `json:"median,omitempty"`
	P95    float64 `json:"p95,omitempty"`
}

// History is the samples of the last hour. It is safe for use by several
// goroutines.
type History struct {
	end  chan struct{}
	done chan struct{}

	mu   sync.Mutex
	all  []Sample
	last reading
}

// Record begins a history, which is to be closed.
func Record() *History {
	h := &History{end: make(chan struct{}), done: make(chan struct{}), last: read(time.Now())}
	go h.record()
	return h
}

func (h *History) record() {
	defer close(h.done)
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		select {
		case <-h.end:
			return
		case now := <-tick.C:
			h.sample(read(now))
		}
	}
}

// Close ends the history.
func (h *History) Close() error {
	close(h.end)
	<-h.done
	return nil
}

// Samples returns the samples, in their order.
func (h *History) Samples() []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

// Last returns the latest sample, nil for none.
func (h *History) Last() *Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == 0 {
		return nil
	}
	last := h.all[len(h.all)-1]
	return &last
}

func (h *History) sample(now reading) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == samples {
		h.all = slices.Delete(h.all, 0, 1)
	}
	h.all = append(h.all, now.since(h.last))
	h.last = now
}

// reading is what was counted up to a time.
type reading struct {
	at       time.Time
	checks   map[string]float64
	lookups  float64
	subjects float64
	buckets  []*dto.Bucket
}

func read(now time.Time) reading {
	r := reading{at: now, checks: make(map[string]float64)}
	each(checks, func(labels map[string]string, m *dto.Metric) {
		r.checks[labels["verdict"]] += m.GetCounter().GetValue()
	})
	each(lookupSeconds, func(_ map[string]string, m *dto.Metric) {
		r.lookups, r.buckets = float64(m.GetHistogram().GetSampleCount()), m.GetHistogram().GetBucket()
	})
	each(lookupSubjects, func(_ map[string]string, m *dto.Metric) { r.subjects = m.GetHistogram().GetSampleSum() })
	return r
}

// since is the sample of what was counted since an earlier reading.
func (r reading) since(earlier reading) Sample {
	s := Sample{
		Time: r.at.UTC(), Seconds: r.at.Sub(earlier.at).Seconds(), Checks: make(map[string]float64),
		Lookups: r.lookups - earlier.lookups, Subjects: r.subjects - earlier.subjects,
	}
	for verdict, n := range r.checks {
		if more := n - earlier.checks[verdict]; more > 0 {
			s.Checks[verdict] = more
		}
	}
	if s.Lookups > 0 {
		s.Median, s.P95 = r.quantile(0.5, s.Lookups, earlier), r.quantile(0.95, s.Lookups, earlier)
	}
	return s
}

// quantile is how long a share of so many lookups took at most: a point between
// the bounds of its bucket, or the highest bound.
func (r reading) quantile(share, lookups float64, earlier reading) float64 {
	rank, below, bound := share*lookups, 0.0, 0.0
	for i, bucket := range r.buckets {
		n := float64(bucket.GetCumulativeCount())
		if i < len(earlier.buckets) {
			n -= float64(earlier.buckets[i].GetCumulativeCount())
		}
		if n >= rank {
			return bound + (bucket.GetUpperBound()-bound)*(rank-below)/(n-below)
		}
		below, bound = n, bucket.GetUpperBound()
	}
	return bound
}
