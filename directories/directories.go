// Package directories has the modules that look users up, and what modules of
// others have to be.
package directories

import (
	"context"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
)

// Namespace is where modules are that look users up.
const Namespace = "http.handlers.stale_session.directories"

// Account is what a Directory says of a subject. The zero value is a subject
// that does not exist. Its fields are
//
//   - Exists: whether the subject has an account;
//   - Disabled: whether that is disabled, banned or soft-deleted;
//   - CreatedAt: when it was created, zero when that is not known;
//   - ValidAfter: the time before which none of its sessions is valid, zero for
//     none;
//   - Matched: what the claims that MatchedClaims names have to equal, in that
//     order; nil for nothing;
//   - Failure: why nothing could be found out about this subject alone.
type Account = directory.Found

// Directory looks users up. What goes with it is the handler's: caching,
// joining lookups that wait at a time, and bearing it when the directory is
// away. Where the directory can be closed (io.Closer) it is, once no
// configuration uses it any more. It is used by several goroutines at a time.
type Directory interface {
	// Lookup says of each subject, in their order, what is there now. That one
	// does not exist ends its sessions: it must be the answer of where the truth
	// is, at this moment. Whatever keeps it from being known is an error; then
	// no session is ended. Errors are logged: they say what to do, and hold no
	// subject and no password.
	Lookup(ctx context.Context, subjects []string) ([]Account, error)
	// String names the directory, without a user or a password, such as "ldap
	// at ldap.example.com".
	String() string
}

// Watcher is a Directory that learns of changes.
type Watcher interface {
	// Watch calls changed with subjects that may be others from now on, and with
	// none when any may be, until ctx is done or it can miss changes; then it is
	// called again, after a while. It calls changed with none once it begins to
	// know.
	Watch(ctx context.Context, changed func(subjects ...string)) error
}

// Module is a module of the namespace
// http.handlers.stale_session.directories.
type Module interface {
	// OpenDirectory returns the directory, without connecting. It outlives the
	// configuration: handlers whose modules have the same JSON share one, across
	// reloads, so it must not use the context that the module was provisioned
	// with.
	OpenDirectory() (Directory, error)
	// MatchedClaims are the claims that accounts have values for, sorted; nil
	// for none.
	MatchedClaims() []string
}
