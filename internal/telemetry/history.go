package telemetry

import (
	"slices"
	"sync"
	"time"
)

const (
	// step is the time between two samples of a History.
	step = 5 * time.Second
	// maxSamples is how many it keeps: those of an hour.
	maxSamples = int(time.Hour / step)
)

// Sample is what was counted within a few seconds.
type Sample struct {
	// Time is the end of these seconds.
	Time time.Time `json:"time"`
	// Seconds is how many there were.
	Seconds float64 `json:"seconds"`
	// Counters are the metrics that counted something.
	Counters Totals `json:"counters"`
}

// History holds the samples of the last hour. It is safe for concurrent use.
type History struct {
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	samples []Sample
	at      time.Time // when the latest was taken
	totals  Totals    // at that time
}

// Record starts a history. The caller must close it.
func Record() *History {
	h := newHistory(time.Now())
	go h.record()
	return h
}

func newHistory(start time.Time) *History {
	return &History{stop: make(chan struct{}), done: make(chan struct{}), at: start, totals: Count()}
}

func (h *History) record() {
	defer close(h.done)
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			return
		case now := <-tick.C:
			h.sample(now)
		}
	}
}

// Close stops the history. It never returns an error.
func (h *History) Close() error {
	close(h.stop)
	<-h.done
	return nil
}

// Samples returns the samples, oldest first.
func (h *History) Samples() []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.samples)
}

// Last returns the latest sample, or nil if there is none yet.
func (h *History) Last() *Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == 0 {
		return nil
	}
	last := h.samples[len(h.samples)-1]
	return &last
}

// sample takes a sample of what was counted since the latest one.
func (h *History) sample(now time.Time) {
	totals := Count()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == maxSamples {
		h.samples = slices.Delete(h.samples, 0, 1)
	}
	h.samples = append(h.samples, Sample{now.UTC(), now.Sub(h.at).Seconds(), totals.since(h.totals)})
	h.at, h.totals = now, totals
}
