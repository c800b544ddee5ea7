package directory

import (
	"context"
	"time"
)

// Directory is where accounts are looked up: one place, or several that are
// asked in turn.
type Directory interface {
	// Lookup finds the account of a subject, and waits no longer than the
	// directory's timeout and until ctx is done.
	Lookup(ctx context.Context, query Query, account *Account) (Source, error)
	// Braking tells whether so many sessions would end at once that something
	// else must be wrong.
	Braking() bool
	// Flush forgets all accounts, and returns how many there were.
	Flush() int64
	// Stats returns the figures of the directory since it was opened.
	Stats() Stats
	// String names it, without a user or a password.
	String() string
}

// Found is what a Finder says of a subject. The zero value is a subject that
// does not exist.
//
//   - Exists tells whether the subject has an account.
//   - Disabled tells whether that is disabled, banned or soft-deleted.
//   - CreatedAt is when it was created, zero when that is not known.
//   - ValidAfter is the time before which none of its sessions is valid, zero
//     for none.
//   - Matched holds what the claims that are matched have to equal, in the
//     order of the claims' names; nil for nothing.
//   - Failure is why nothing could be found out about this subject alone.
type Found struct {
	Exists     bool
	Disabled   bool
	CreatedAt  time.Time
	ValidAfter time.Time
	Matched    [][]byte
	Failure    error
}

// Finder finds accounts where they are kept. All that goes with it, caching
// and what to do while it is away, is Cached's.
type Finder interface {
	// Lookup says of each subject, in their order, what is there now. That one
	// does not exist ends its sessions: it must be the answer of where the truth
	// is, at this moment. Whatever keeps it from being known is an error. The
	// errors are logged: they say what to do, and hold no subject and no
	// password.
	Lookup(ctx context.Context, subjects []string) ([]Found, error)
	// String names the place, without a user or a password.
	String() string
}

// Watcher is a Finder that learns of changes.
type Watcher interface {
	// Watch calls changed with subjects that may be others from now on, and with
	// none when any may be, until ctx is done or it can miss changes. It calls
	// it with none once it begins to know: from then on accounts are used until
	// they have aged, or are named.
	Watch(ctx context.Context, changed func(subjects ...string)) error
}

// Interface guards
var (
	_ Directory = (*Postgres)(nil)
	_ Directory = (*Cached)(nil)
	_ Directory = (*Chain)(nil)
)
