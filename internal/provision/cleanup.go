package provision

import (
	"cmp"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cleanup"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

var cleanups = shared.NewPool[*cleanup.Job]()

// Cleanup takes the cleanup of sessions, if there are options. The sessions are
// beside the users in Postgres.
func (r *Resources) Cleanup(options *cleanup.Cleanup, module directories.Module) error {
	if options == nil {
		return nil
	}
	if err := r.startCleanup(options, module); err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	return nil
}

func (r *Resources) startCleanup(options *cleanup.Cleanup, module directories.Module) error {
	if options.Every != 0 && time.Duration(options.Every) < time.Minute {
		return fmt.Errorf("every is %s; it must be 1m or more", time.Duration(options.Every))
	}
	users, found := postgres.ConfigOf(module)
	if !found {
		users = postgres.DatabaseOptions{}.Config()
	}
	if options.Database != "" {
		users.DSN = environment.Later("database", options.Database)
	}
	dsn, err := users.DSN()
	if err != nil {
		return err
	}
	job := cleanup.Config{
		Users: users, Every: cmp.Or(time.Duration(options.Every), time.Hour), Sessions: options.Sessions, DryRun: options.DryRun,
		Logger:  func() *zap.Logger { return caddy.Log().Named("http.handlers.stale_session.cleanup") },
		Removed: telemetry.CleanedUp,
	}
	_, err = acquire(r, cleanups, []any{dsn, job}, func() (*cleanup.Job, func() error, error) {
		started, err := cleanup.Start(job)
		if err != nil {
			return nil, nil, err
		}
		return started, started.Close, nil
	})
	return err
}
