package telemetry

import (
	dto "github.com/prometheus/client_model/go"
)

// Totals are what the counters and histograms of the list counted, by name
// without "caddy_stale_session_".
type Totals map[string]Total

// Total is what a counter or a histogram counted.
type Total struct {
	// Count is what a counter counted over all labels, or how many values a
	// histogram observed.
	Count float64 `json:"count"`
	// By is the count of a counter by label and value. Empty values are left out.
	By map[string]map[string]float64 `json:"by,omitempty"`
	// Sum is the sum of the values that a histogram observed.
	Sum float64 `json:"sum,omitempty"`
	// P50 and P95 are their percentiles, estimated from the buckets.
	P50 float64 `json:"p50,omitempty"`
	P95 float64 `json:"p95,omitempty"`

	buckets []*dto.Bucket
}

// Count returns what was counted since the process started.
func Count() Totals {
	families := make(map[string]*dto.MetricFamily)
	gathered, _ := registry.Gather() // on an error, all but the broken metric
	for _, family := range gathered {
		families[family.GetName()] = family
	}
	totals := make(Totals)
	for _, m := range metrics {
		if m.Kind != Gauge {
			totals[m.Name] = total(families[fullName(m.Name)].GetMetric())
		}
	}
	return totals
}

// total adds up the time series of a metric.
func total(all []*dto.Metric) Total {
	var t Total
	for _, one := range all {
		if h := one.GetHistogram(); h != nil { // no histogram has labels
			t = Total{Count: float64(h.GetSampleCount()), Sum: h.GetSampleSum(), buckets: h.GetBucket()}
			t.P50, t.P95 = t.percentile(0.5, Total{}), t.percentile(0.95, Total{})
			continue
		}
		n := one.GetCounter().GetValue()
		t.Count += n
		for _, label := range one.GetLabel() {
			if label.GetValue() != "" {
				t.add(label.GetName(), label.GetValue(), n)
			}
		}
	}
	return t
}

// add adds to the count of a label's value.
func (t *Total) add(label, value string, n float64) {
	if t.By == nil {
		t.By = make(map[string]map[string]float64)
	}
	if t.By[label] == nil {
		t.By[label] = make(map[string]float64)
	}
	t.By[label][value] += n
}

// since returns what was counted since earlier totals. It leaves out metrics and
// label values that counted nothing.
func (t Totals) since(earlier Totals) Totals {
	since := make(Totals)
	for name, total := range t {
		if total.Count > earlier[name].Count {
			since[name] = total.since(earlier[name])
		}
	}
	return since
}

func (t Total) since(earlier Total) Total {
	since := Total{
		Count: t.Count - earlier.Count, Sum: t.Sum - earlier.Sum,
		P50: t.percentile(0.5, earlier), P95: t.percentile(0.95, earlier),
	}
	for label, counts := range t.By {
		for value, n := range counts {
			if n -= earlier.By[label][value]; n > 0 {
				since.add(label, value, n)
			}
		}
	}
	return since
}

// percentile estimates the value that a share of those observed since earlier
// did not exceed, within the bounds of its bucket. It is 0 when there were none,
// and the highest bound at most.
func (t Total) percentile(share float64, earlier Total) float64 {
	rank, below, bound := share*(t.Count-earlier.Count), 0.0, 0.0
	if rank == 0 {
		return 0
	}
	for i, bucket := range t.buckets {
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
