package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Totals are the counters of this process.
type Totals struct {
	// Checks are by verdict, Reasons those of stale sessions, Sources where the
	// accounts came from.
	Checks  map[string]float64 `json:"checks"`
	Reasons map[string]float64 `json:"reasons"`
	Sources map[string]float64 `json:"sources"`
	// Responses are by kind.
	Responses map[string]float64 `json:"responses"`
	// LookupErrors are by class.
	LookupErrors map[string]float64 `json:"lookup_errors"`
	// LookupSeconds are how long Lookups statements took, which have looked up
	// LookupSubjects accounts.
	LookupSeconds  float64 `json:"lookup_seconds"`
	Lookups        float64 `json:"lookups"`
	LookupSubjects float64 `json:"lookup_subjects"`
	// The others are the metrics of their names.
	Rescues        float64 `json:"rescues"`
	UpstreamErrors float64 `json:"upstream_errors"`
	SignIns        float64 `json:"sign_ins"`
}

// Count returns the counters, as the metrics have them.
func Count() Totals {
	byVerdict, byReason, bySource := make(map[string]float64), make(map[string]float64), make(map[string]float64)
	each(checks, func(labels map[string]string, m *dto.Metric) {
		n := m.GetCounter().GetValue()
		byVerdict[labels["verdict"]] += n
		if reason := labels["reason"]; reason != "" {
			byReason[reason] += n
		}
		if source := labels["source"]; source != "" {
			bySource[source] += n
		}
	})
	t := Totals{Checks: byVerdict, Reasons: byReason, Sources: bySource, Responses: make(map[string]float64), LookupErrors: make(map[string]float64)}
	each(responses, func(labels map[string]string, m *dto.Metric) {
		t.Responses[labels["kind"]] += m.GetCounter().GetValue()
	})
	each(lookupErrors, func(labels map[string]string, m *dto.Metric) {
		t.LookupErrors[labels["class"]] += m.GetCounter().GetValue()
	})
	each(lookupSeconds, func(_ map[string]string, m *dto.Metric) {
		t.LookupSeconds, t.Lookups = m.GetHistogram().GetSampleSum(), float64(m.GetHistogram().GetSampleCount())
	})
	each(lookupSubjects, func(_ map[string]string, m *dto.Metric) { t.LookupSubjects = m.GetHistogram().GetSampleSum() })
	for metric, total := range map[prometheus.Collector]*float64{rescues: &t.Rescues, upstreamErrors: &t.UpstreamErrors, signIns: &t.SignIns} {
		each(metric, func(_ map[string]string, m *dto.Metric) { *total = m.GetCounter().GetValue() })
	}
	return t
}

// each calls a function with the labels and the value of each metric.
func each(c prometheus.Collector, do func(labels map[string]string, m *dto.Metric)) {
	metrics := make(chan prometheus.Metric)
	go func() {
		defer close(metrics)
		c.Collect(metrics)
	}()
	for metric := range metrics {
		var m dto.Metric
		if metric.Write(&m) != nil {
			continue
		}
		labels := make(map[string]string)
		for _, label := range m.GetLabel() {
			labels[label.GetName()] = label.GetValue()
		}
		do(labels, &m)
	}
}
