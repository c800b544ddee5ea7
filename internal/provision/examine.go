package provision

import (
	"context"
	"io"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// nobody is a subject that no app gives to a user.
const nobody = "stale-session-doctor"

// Examine tries what a handler needs besides Postgres: the other places where
// its users are, and the Redis in which nodes share revocations. It changes
// nothing there.
func Examine(ctx context.Context, modules Modules, revocations *revocation.Revocations) []directory.Finding {
	var found []directory.Finding
	for _, module := range modules {
		if module, ok := module.(directories.Module); ok {
			found = append(found, examineModule(ctx, module))
		}
	}
	if revocations != nil && revocations.Redis != "" {
		found = append(found, examineRevocations(ctx, revocations))
	}
	return found
}

// examineModule looks for somebody who is not there, which takes more than to
// find somebody: the answer must be one that ends sessions.
func examineModule(ctx context.Context, module directories.Module) directory.Finding {
	place, err := module.OpenDirectory()
	if err != nil {
		return directory.Finding{Level: directory.Bad, Text: "a directory is not configured", Remedy: err.Error()}
	}
	if closer, ok := place.(io.Closer); ok {
		defer closer.Close()
	}
	answers, err := place.Lookup(ctx, []string{nobody})
	if err == nil && len(answers) == 1 {
		err = answers[0].Failure
	}
	if err != nil {
		return directory.Finding{Level: directory.Bad, Text: "users cannot be looked up in " + place.String(), Remedy: err.Error()}
	}
	return directory.Finding{Level: directory.Good, Text: "users can be looked up in " + place.String()}
}

func examineRevocations(ctx context.Context, options *revocation.Revocations) directory.Finding {
	store, err := revocation.OpenRedis(environment.Later("redis", options.Redis), options.Name, time.Duration(options.Life))
	if err != nil {
		return directory.Finding{Level: directory.Bad, Text: "the Redis of revocations is not configured", Remedy: err.Error()}
	}
	defer store.Close()
	if err := store.Examine(ctx); err != nil {
		return directory.Finding{Level: directory.Bad, Text: "nodes cannot share revocations through " + store.String(), Remedy: err.Error()}
	}
	return directory.Finding{Level: directory.Good, Text: "nodes can share revocations through " + store.String()}
}
