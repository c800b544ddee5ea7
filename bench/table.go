package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// table returns a table in Markdown of the samples of some targets: medians over
// the rounds, and comparisons with the first target within each round.
func table(names []string, rounds [][]sample, targets []int) string {
	var b strings.Builder
	titles := []string{"target", "requests/s", "CPU µs", "added CPU µs", "Postgres µs", "p50 ms", "p99 ms", "MiB", "CPU ÷ first", "p99 ÷ first", "requests/s ÷ first"}
	counted := slices.ContainsFunc(rounds[0], func(s sample) bool { return s.collections > 0 })
	if counted {
		titles = append(titles, "collections/100,000")
	}
	b.WriteString("| " + strings.Join(titles, " | ") + " |\n" + strings.Repeat("|---", len(titles)) + "|\n")
	for _, n := range targets {
		over := func(value func(s, base sample) float64) []float64 {
			values := make([]float64, len(rounds))
			for i, round := range rounds {
				values[i] = value(round[n], round[targets[0]])
			}
			return values
		}
		number := func(value func(s, base sample) float64, digits int) string {
			return fmt.Sprintf("%.*f", digits, median(over(value)))
		}
		compared := func(value func(s, base sample) float64, digits int) string {
			if n == targets[0] {
				return ""
			}
			values := over(value)
			low, high := interval(values)
			return fmt.Sprintf("%.*f [%.*f, %.*f]", digits, median(values), digits, low, digits, high)
		}
		columns := []string{
			names[n],
			number(func(s, _ sample) float64 { return s.rate }, 0),
			number(func(s, _ sample) float64 { return in(time.Microsecond, s.cpu) }, 1),
			compared(func(s, base sample) float64 { return in(time.Microsecond, s.cpu-base.cpu) }, 1),
			number(func(s, _ sample) float64 { return in(time.Microsecond, s.postgres) }, 1),
			number(func(s, _ sample) float64 { return in(time.Millisecond, s.p50) }, 2),
			number(func(s, _ sample) float64 { return in(time.Millisecond, s.p99) }, 2),
			number(func(s, _ sample) float64 { return float64(s.resident) / (1 << 20) }, 0),
			compared(func(s, base sample) float64 { return float64(s.cpu) / float64(base.cpu) }, 3),
			compared(func(s, base sample) float64 { return float64(s.p99) / float64(base.p99) }, 2),
			compared(func(s, base sample) float64 { return s.rate / base.rate }, 3),
		}
		if counted {
			columns = append(columns, number(func(s, _ sample) float64 { return s.collections * 100_000 }, 1))
		}
		b.WriteString("| " + strings.Join(columns, " | ") + " |\n")
	}
	return b.String()
}

// addition compares the CPU that another target adds with what the module adds.
// The latter can be too little to measure, so it gives a bound: the least that
// the other adds divided by the most that the module adds.
func addition(names []string, rounds [][]sample, other, ours [2]int) string {
	added := func(pair [2]int) (middle, low, high float64) {
		values := make([]float64, len(rounds))
		for i, round := range rounds {
			values[i] = in(time.Microsecond, round[pair[0]].cpu-round[pair[1]].cpu)
		}
		low, high = interval(values)
		return median(values), low, high
	}
	theirs, least, _ := added(other)
	own, low, most := added(ours)
	text := fmt.Sprintf("%s adds %.1f µs, `stale_session` %.1f µs [%.1f, %.1f] at equal collection: ", names[other[0]], theirs, own, low, most)
	if most <= 0 {
		return text + "no measurable cost."
	}
	return text + fmt.Sprintf("%.0f times as much at least.", least/most)
}

// in returns how many units a duration is.
func in(unit, d time.Duration) float64 { return float64(d) / float64(unit) }

// median returns the median of at least one value.
func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// interval returns a 95 % confidence interval of the median for any
// distribution: it omits as many of the smallest and of the largest values as the
// binomial distribution allows. With fewer than six values it is the full range,
// and the confidence lower.
func interval(values []float64) (low, high float64) {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	term := math.Pow(0.5, float64(n)) // how likely it is that k of n lie below the median
	out := 0
	for k, sum := 0, term; sum <= 0.025; k++ {
		out = k
		term *= float64(n-k) / float64(k+1)
		sum += term
	}
	return values[out], values[n-1-out]
}
