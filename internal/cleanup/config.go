package cleanup

import (
	"cmp"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
)

// Cleanup deletes rows from the sessions table of an app with
// `strategy: "database"`: those that have expired in every time zone for an hour,
// and those whose user is proven to be gone, as for the end of a session. One node
// of a fleet does so at a time, 500 rows per statement. The first run for a table
// only counts and logs.
type Cleanup struct {
	// How often to run, at least 1m. Runs begin at multiples of it since 1970, in
	// UTC. Default: 1h.
	Every caddy.Duration `json:"every,omitempty"`

	// The address of the database, for a role with SELECT and DELETE on the
	// sessions table and SELECT on the users table. Default: the handler's
	// Database.
	Database string `json:"database,omitempty"`

	// The sessions table, with its schema if that is not in the search path.
	// Default: found in the database, for the schemas of Prisma, the Auth.js
	// adapters and Better Auth.
	Sessions string `json:"sessions,omitempty"`

	// Only count and log, at every run. Default: false; the first run for a table
	// does so in any case.
	DryRun bool `json:"dry_run,omitempty"`
}

const (
	defaultEvery = time.Hour
	minEvery     = time.Minute
)

// UnmarshalCaddyfile parses the block of `cleanup`.
func (c *Cleanup) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return directive.Block(d, "cleanup", directive.Options{
		"every":    directive.Duration(&c.Every),
		"database": directive.Text(&c.Database),
		"sessions": directive.Text(&c.Sessions),
		"dry_run":  directive.Flag(&c.DryRun),
	})
}

// Config returns the configuration of a job for the users of a directory, or an
// error if an option is invalid.
func (c *Cleanup) Config(users postgres.Config) (Config, error) {
	every := cmp.Or(time.Duration(c.Every), defaultEvery)
	if every < minEvery {
		return Config{}, fmt.Errorf("every is %s; it must be 1m or more", every)
	}
	if c.Database != "" {
		users.DSN = environment.Later("database", c.Database)
	}
	// The sessions have nothing to do with the other columns, which the role may not read.
	users.Users = postgres.Users{Table: users.Users.Table, ID: users.Users.ID}
	users.AllRivals = true
	return Config{
		Users: users, Every: every, Sessions: c.Sessions, DryRun: c.DryRun,
		Logger: func() *zap.Logger { return caddy.Log().Named("http.handlers.stale_session.cleanup") },
	}, nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Cleanup)(nil)
