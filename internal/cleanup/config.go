package cleanup

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

// Cleanup removes rows of a table of sessions, as apps have it with
// `strategy: "database"`: those that expired more than an hour ago, and those
// whose user is gone. One node of a fleet does it at a time, 500 rows a
// statement. The first run after a start only counts and logs. Orphans are left
// when they are more than half of all rows.
type Cleanup struct {
	// How often, at least 1m. Runs begin at multiples of it since 1970, in UTC.
	// Default: 1h.
	Every caddy.Duration `json:"every,omitempty"`

	// The address of the database, for a role that may SELECT and DELETE in the
	// table of sessions, and SELECT in that of users. Default: the handler's
	// Database.
	Database string `json:"database,omitempty"`

	// The table of sessions, with its schema if it needs one. Default: found in
	// the database, for the schemas of Prisma, the Auth.js adapters and Better
	// Auth.
	Sessions string `json:"sessions,omitempty"`

	// Only count and log, at every run. Default: false.
	DryRun bool `json:"dry_run,omitempty"`
}

// UnmarshalCaddyfile takes the block of `cleanup`, whose name was read.
func (c *Cleanup) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return directive.Block(d, "cleanup", directive.Options{
		"every":    directive.Duration(&c.Every),
		"database": directive.Text(&c.Database),
		"sessions": directive.Text(&c.Sessions),
		"dry_run":  directive.Flag(&c.DryRun),
	})
}
