package directory

import (
	"time"

	"go.uber.org/zap"
)

// Config says where accounts are looked up.
type Config struct {
	// DSN returns the address of the database. It is called when the directory
	// is opened, and again for each connection, so that a password that was
	// changed is taken up.
	DSN func() (string, error) `json:"-"`
	// Users names the users table and its columns.
	Users Users
	// Query takes the place of the users table: one parameter, a text[] of
	// subjects; a row with the column id for each that exists, and optionally
	// created_at, valid_after, disabled and the columns of Users.Match.
	Query string
	// Timeout is how long a lookup is waited for. Default: 500ms.
	Timeout time.Duration
	// TTL and AbsentTTL are how long an account and the absence of one are
	// used without asking again. Defaults: 30s, 5s.
	TTL, AbsentTTL time.Duration
	// Size is how many accounts are held, about. Default: 100000.
	Size int
	// Poll is how often the database is asked whether anything was changed in
	// it. Default: 500ms; negative for never.
	Poll time.Duration
	// ListenDSN returns the address of a connection that is told of changes,
	// for when DSN is that of a pooler; nil for DSN.
	ListenDSN func() (string, error) `json:"-"`
	// BrakeShare is the share of the users seen in BrakeWindow that can be
	// found gone at once; when there are more, Braking holds. 0 for no limit.
	BrakeShare  float64
	BrakeWindow time.Duration
	// Observer is told how the directory fares; nil for none.
	Observer Observer `json:"-"`
	// Logger returns the logger to use; it is called for each line, because a
	// directory outlives the configuration that opened it.
	Logger func() *zap.Logger `json:"-"`
}

// Users names the users table and its columns. What is empty is found in the
// catalogue, if it has a well-known name.
type Users struct {
	// Table is the table, with its schema if it needs one.
	Table string
	// ID is the column of the subject. Default: id.
	ID string
	// CreatedAt and ValidAfter are columns of times.
	CreatedAt, ValidAfter string
	// Disabled are columns any of which disables the user.
	Disabled []string
	// Match are the columns to be returned as text.
	Match []string
}
