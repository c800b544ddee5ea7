package accounts

import (
	"iter"
	"time"
)

// Observer is notified of what an engine does. Its methods must not block.
type Observer interface {
	// Asked is called after a lookup that requests waited for: with the number
	// of subjects, how long it took, and a *directories.Error if it failed.
	Asked(subjects int, took time.Duration, err error)
	// Happened is called when the state of a directory has changed. The details
	// hold no subject and no password.
	Happened(event Event, directory string, details map[string]any)
}

// Streams are what is under way of the subjects of directories: it ends with their
// sessions. Its methods must not block.
type Streams interface {
	// Changed is called when the account of a subject may have changed, and with nil
	// when all may have. The subject is as Engine.Key returns it.
	Changed(directory string, subject []byte)
	// Subjects yields the subjects that something is under way of. Each is part of a
	// request: who keeps it keeps that.
	Subjects(directory string) iter.Seq[[]byte]
}

// Event is a change of the state of a directory.
type Event string

// The events.
const (
	// Unreachable: lookups fail; details: class, error.
	Unreachable Event = "database_unreachable"
	// Recovered: they succeed again.
	Recovered Event = "database_recovered"
	// Reset: the users table was recreated, emptied, rewritten or restored.
	Reset Event = "database_reset"
	// BrakeOn: too many sessions would end at once, so none does; details:
	// gone, seen, likely.
	BrakeOn Event = "brake_on"
	// BrakeOff: sessions end again.
	BrakeOff Event = "brake_off"
)

// tell tells the streams that an account may have changed, or all with nil.
func (e *Engine) tell(subject []byte) {
	if e.config.Streams != nil {
		e.config.Streams.Changed(e.name, subject)
	}
}

// happened notifies the observer, if there is one.
func (e *Engine) happened(event Event, details map[string]any) {
	if e.config.Observer != nil {
		e.config.Observer.Happened(event, e.directory.String(), details)
	}
}
