package directories

import (
	"context"
	"time"
)

// Watcher is a Directory that notices changes.
type Watcher interface {
	Directory

	// Watch connects, and begins to watch. From then on it calls changed with
	// the subjects whose accounts may have changed, or with none when any may
	// have. The engine opens one watch at a time, and another one when it fails.
	Watch(ctx context.Context, changed func(subjects ...string)) (Watch, error)
}

// Watch is an open connection of a Watcher. One goroutine uses it.
type Watch interface {
	// Wait watches until ctx is done, and then returns nil. An error means that
	// changes may have been missed, and ends the watch.
	Wait(ctx context.Context) error

	// Close ends the watch.
	Close() error
}

// Gate is a Watch that can tell that nothing has changed at all. The engine
// reads it every poll interval. While its value stays the same, every cached
// account holds without a lookup; when it changes, the engine looks the accounts
// in use up again, so that requests do not wait while others write.
type Gate interface {
	Watch

	// Read reads the gate.
	Read(ctx context.Context) (Reading, error)

	// Lookup is Directory.Lookup on the connection of the gate: its answers are
	// no older than the value that was read last.
	Lookup(ctx context.Context, queries []Query) ([]Account, error)
}

// Reading is the state of a Gate.
type Reading struct {
	// Value changes with every commit that can change an account. It may change
	// more often than that.
	Value string

	// Epoch changes when all users are replaced: the table was recreated,
	// emptied or restored. Empty if unknown.
	Epoch string

	// Server identifies the server that was read, as Account.Server does.
	Server string

	// Failure is why nobody can be looked up, as far as the gate shows it: the role
	// has lost its rights, say. It is logged at once, although nobody asks; nil if
	// there is no reason.
	Failure error
	// Clock is the time by the clock of the server that writes the users, as it was
	// read; zero if unknown. It is compared with ours, so that times in accounts can
	// be compared with those in tokens more exactly than to a minute.
	Clock time.Time
}
