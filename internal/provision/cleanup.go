package provision

import (
	"fmt"

	"github.com/seed-4adef13c/caddy-stale-session/internal/cleanup"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

var cleanups = shared.NewPool[*cleanup.Job]()

// Cleanup takes the cleanup of sessions, if there are options. The sessions are
// beside the users in Postgres.
func (h *Held) Cleanup(options *cleanup.Cleanup, modules Modules, config directory.Config) error {
	if options == nil {
		return nil
	}
	if err := h.startCleanup(options, modules, config); err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	return nil
}

func (h *Held) startCleanup(options *cleanup.Cleanup, modules Modules, config directory.Config) error {
	postgres, _ := modules.Postgres()
	users, err := postgres.Config(config)
	if err != nil {
		return err
	}
	job, err := options.Config(users)
	if err != nil {
		return err
	}
	job.Removed = telemetry.CleanedUp
	dsn, err := job.Directory.DSN()
	if err != nil {
		return err
	}
	_, err = take(h, cleanups, []any{dsn, job}, func() (*cleanup.Job, func() error, error) {
		started, err := cleanup.Start(job)
		if err != nil {
			return nil, nil, err
		}
		return started, started.Close, nil
	})
	return err
}
