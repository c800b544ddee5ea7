package directory

import "time"

// Observer is told how a directory fares. What it does must not take long.
type Observer interface {
	// Asked is told of a statement that requests have waited for: how many
	// subjects it asked for, how long it took, and an *Error if it failed.
	Asked(subjects int, took time.Duration, err error)
	// Happened is told that the state of a directory has changed. The details
	// hold no subject and no password.
	Happened(event Event, directory string, details map[string]any)
}

// Event is a change of the state of a directory.
type Event string

// The events.
const (
	// Unreachable: accounts cannot be looked up; details: class, error.
	Unreachable Event = "database_unreachable"
	// Recovered: they can again.
	Recovered Event = "database_recovered"
	// Reset: the users table was recreated, emptied, rewritten or restored.
	Reset Event = "database_reset"
	// BrakeOn: too many sessions would end at once, so none is ended; details:
	// gone, seen, likely.
	BrakeOn Event = "brake_on"
	// BrakeOff: sessions are ended again.
	BrakeOff Event = "brake_off"
)

// happened tells the observer, if there is one.
func (b *backend) happened(event Event, details map[string]any) {
	if b.config.Observer != nil {
		b.config.Observer.Happened(event, b.place.String(), details)
	}
}
