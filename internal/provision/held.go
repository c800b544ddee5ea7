// Package provision gives handlers what they share, and what outlives a reload
// of the configuration: all that read the same tokens in the same way use one
// reader, all that have the same database, users and cache one directory, all
// that have the same JWKS one key set.
package provision

import (
	"errors"
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// Held is what a handler has taken and has to give back. The zero value holds
// nothing.
type Held struct{ releases []func() error }

// Keep has Release call a function.
func (h *Held) Keep(release func()) {
	h.releases = append(h.releases, func() error { release(); return nil })
}

// Release gives everything back, what was taken last first: it may use what was
// taken before.
func (h *Held) Release() error {
	var failures []error
	for _, release := range slices.Backward(h.releases) {
		failures = append(failures, release())
	}
	h.releases = nil
	return errors.Join(failures...)
}

// take takes a value from a pool until it is released.
func take[T any](h *Held, pool shared.Pool[T], distinct any, open func() (T, func() error, error)) (T, error) {
	value, release, err := pool.Acquire(distinct, open)
	if err == nil {
		h.releases = append(h.releases, release)
	}
	return value, err
}

// histories holds the one history of this process.
var histories = shared.NewPool[*telemetry.History]()

// Record keeps what is counted, of all handlers, until it is released.
func (h *Held) Record() error {
	_, err := take(h, histories, "", func() (*telemetry.History, func() error, error) {
		history := telemetry.Record()
		return history, history.Close, nil
	})
	return err
}

// Recorded returns what was counted lately, nil when nobody has it recorded.
func Recorded() *telemetry.History {
	for _, history := range histories.All() {
		return history
	}
	return nil
}
