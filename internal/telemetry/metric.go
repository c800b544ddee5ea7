package telemetry

import (
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// fullName returns the name of a metric in Prometheus.
func fullName(name string) string { return "caddy_stale_session_" + name }

// Kind is the type of a metric, as Prometheus names it.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Metric describes a metric.
type Metric struct {
	// Name is its name in Prometheus without "caddy_stale_session_".
	Name string
	// Help says what it counts or measures.
	Help string
	// Kind is its type.
	Kind Kind
	// Labels are the names of its labels.
	Labels []string
}

var (
	metrics  []Metric                   // in the order of the list
	registry = prometheus.NewRegistry() // of all metrics
)

// Metrics returns the descriptions of all metrics.
func Metrics() []Metric { return slices.Clone(metrics) }

// Register registers all metrics with the registry of a configuration, once
// however often it is called. A nil registry is ignored.
func Register(of *prometheus.Registry) error {
	if of == nil {
		return nil
	}
	err := of.Register(registry)
	if already := (prometheus.AlreadyRegisteredError{}); errors.As(err, &already) {
		return nil
	}
	return err
}

// define adds a metric to the list.
func define(kind Kind, name, help string, labels ...string) prometheus.Opts {
	metrics = append(metrics, Metric{Name: name, Help: help, Kind: kind, Labels: labels})
	return prometheus.Opts{Name: fullName(name), Help: help}
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	opts := prometheus.CounterOpts(define(Counter, name, help, labels...))
	return promauto.With(registry).NewCounterVec(opts, labels)
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	opts := define(Histogram, name, help)
	return promauto.With(registry).NewHistogram(prometheus.HistogramOpts{Name: opts.Name, Help: opts.Help, Buckets: buckets})
}

// observedMetric is a metric whose values are read from what is in use, whenever
// the metrics are collected.
type observedMetric struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	labels int // how many
}

var observedMetrics []*observedMetric

func observedCounter(name, help string, labels ...string) *observedMetric {
	return observe(prometheus.CounterValue, define(Counter, name, help, labels...), labels)
}

func observedGauge(name, help string, labels ...string) *observedMetric {
	return observe(prometheus.GaugeValue, define(Gauge, name, help, labels...), labels)
}

func observe(kind prometheus.ValueType, opts prometheus.Opts, labels []string) *observedMetric {
	m := &observedMetric{prometheus.NewDesc(opts.Name, opts.Help, labels, nil), kind, len(labels)}
	observedMetrics = append(observedMetrics, m)
	return m
}
