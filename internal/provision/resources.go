// Package provision gives handlers what they share, and what outlives a reload
// of the configuration: the readers of tokens, the engines in front of
// directories, the key sets, the lists of revocations.
package provision

import (
	"errors"
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// Resources are what a handler has acquired and must release. The zero value
// holds nothing.
type Resources struct{ releases []func() error }

// Defer has Release call a function.
func (r *Resources) Defer(release func()) {
	r.releases = append(r.releases, func() error { release(); return nil })
}

// Release releases everything, in reverse order: what was acquired later may
// use what was acquired earlier.
func (r *Resources) Release() error {
	var failures []error
	for _, release := range slices.Backward(r.releases) {
		failures = append(failures, release())
	}
	r.releases = nil
	return errors.Join(failures...)
}

// acquire takes a value from a pool until Release.
func acquire[T any](r *Resources, pool shared.Pool[T], distinct any, open func() (T, func() error, error)) (T, error) {
	value, release, err := pool.Acquire(distinct, open)
	if err == nil {
		r.releases = append(r.releases, release)
	}
	return value, err
}

// histories holds the one history of this process.
var histories = shared.NewPool[*telemetry.History]()

// Record records the history of all handlers until Release.
func (r *Resources) Record() error {
	_, err := acquire(r, histories, "", func() (*telemetry.History, func() error, error) {
		history := telemetry.Record()
		return history, history.Close, nil
	})
	return err
}

// Recorded returns the history; nil if nobody has it recorded.
func Recorded() *telemetry.History {
	for _, history := range histories.All() {
		return history
	}
	return nil
}
