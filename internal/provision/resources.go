// Package provision holds what handlers share and what survives a reload: token
// readers, key sets, the engines of directories, revocation lists, cleanup jobs
// and the history.
package provision

import (
	"errors"
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// Resources are what a handler has acquired, and must release. The zero value is
// empty.
type Resources struct{ releases []func() error }

// Defer makes Release call a function.
func (r *Resources) Defer(release func()) {
	r.releases = append(r.releases, func() error { release(); return nil })
}

// Release releases everything, the last first: it may use what was acquired
// before.
func (r *Resources) Release() error {
	var failures []error
	for _, release := range slices.Backward(r.releases) {
		failures = append(failures, release())
	}
	r.releases = nil
	return errors.Join(failures...)
}

// acquire acquires a value of a pool until Release.
func acquire[T any](r *Resources, pool shared.Pool[T], distinct any, open func() (T, func() error, error)) (T, error) {
	value, release, err := pool.Acquire(distinct, open)
	if err == nil {
		r.releases = append(r.releases, release)
	}
	return value, err
}

// histories holds the only history of this process.
var histories = shared.NewPool[*telemetry.History]()

// Record records the history of the metrics until Release.
func (r *Resources) Record() error {
	_, err := acquire(r, histories, "", func() (*telemetry.History, func() error, error) {
		history := telemetry.Record()
		return history, history.Close, nil
	})
	return err
}

// Recorded returns the history; nil if no handler records it.
func Recorded() *telemetry.History {
	for _, history := range histories.All() {
		return history
	}
	return nil
}
