package provision

import (
	"fmt"

	"github.com/caddyserver/certmagic"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cleanup"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

var cleanups = shared.NewPool[*cleanup.Job]()

// Cleanup starts to delete old sessions on a schedule, unless options is nil. The
// sessions table is in the database of the users, or, if these are not in
// Postgres, in the default one.
func (r *Resources) Cleanup(options *cleanup.Cleanup, module directories.Module, storage certmagic.Storage) error {
	if options == nil {
		return nil
	}
	if err := r.startCleanup(options, module, storage); err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	return nil
}

func (r *Resources) startCleanup(options *cleanup.Cleanup, module directories.Module, storage certmagic.Storage) error {
	users, found := postgres.ConfigOf(module)
	if !found {
		users = postgres.DatabaseOptions{}.Config()
	}
	job, err := options.Config(users)
	if err != nil {
		return err
	}
	job.Removed, job.Storage = telemetry.CleanedUp, storage
	dsn, err := job.Users.DSN()
	if err != nil {
		return err
	}
	_, err = acquire(r, cleanups, []any{dsn, job, identity(storage)}, func() (*cleanup.Job, func() error, error) {
		started, err := cleanup.Start(job)
		if err != nil {
			return nil, nil, err
		}
		return started, started.Close, nil
	})
	return err
}
