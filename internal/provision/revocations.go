package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
	"github.com/seed-4adef13c/caddy-stale-session/internal/streams"
)

var revoked = shared.NewPool[*revocation.List]()

// Lists returns the revocation lists in use.
func Lists() []*revocation.List { return revoked.All() }

// Revocations acquires the revocation list of the users of an engine. Options may
// be nil.
func (r *Resources) Revocations(options *revocation.Revocations, storage certmagic.Storage, users *accounts.Engine) (*revocation.List, error) {
	if options == nil {
		options = new(revocation.Revocations)
	}
	if options.Life < 0 || time.Duration(options.Life) > revocation.DefaultLife {
		return nil, errors.New("revocations: life must not be negative, or longer than 400 days, for which browsers keep a cookie")
	}
	name, life := options.Name, time.Duration(options.Life)
	database, isPostgres := users.Directory().(*postgres.Directory)
	if name == "" {
		name = users.String()
	}
	address := environment.Later("redis", options.Redis)
	url := ""
	if options.Redis != "" {
		var err error
		if url, err = address(); err != nil {
			return nil, fmt.Errorf("revocations: %w", err)
		}
	}
	distinct := []any{name, life, url, users.String(), identity(storage)}
	table := name + " in " + users.String()
	opened := false
	list, err := acquire(r, revoked, distinct, func() (*revocation.List, func() error, error) {
		local := revocation.NewStorage(storage, name, life)
		config := revocation.Config{
			Users: table, Local: local, Life: life, Grown: streams.Open.Revoked,
			Logger: func() *zap.Logger { return caddy.Log().Named("http.handlers.stale_session.revocations") },
		}
		closeRedis := func() {}
		if url != "" {
			store, err := OpenRevocations(address, name, life)
			if err != nil {
				return nil, nil, fmt.Errorf("revocations: %w", err)
			}
			config.Shared, closeRedis = store, store.Close
		} else if isPostgres {
			identified := local.Name
			if options.Name != "" { // that is what tells them apart
				identified = nil
			}
			config.Shared = revocation.NewPostgres(life, identified)
		}
		list := revocation.Open(config)
		opened = true
		return list, func() error { err := list.Close(); closeRedis(); return err }, nil
	})
	if err != nil {
		return nil, err
	}
	if opened { // a reload may have changed the options or the storage
		for _, other := range Lists() {
			if other != list && other.Users() == table {
				list.Adopt(other)
			}
		}
	}
	// Engines of the same users with different options share a list.
	switch store := list.Shared().(type) {
	case *revocation.Postgres:
		if isPostgres {
			r.Defer(store.Use(database, users.Watches()))
			users.StartWatch()
		}
	case revocation.Remote:
		if isPostgres && options.Name == "" {
			r.Defer(store.Use(func(ctx context.Context) string {
				name := database.Identity(ctx).String()
				list.Name(name)
				return name
			}))
		}
	}
	return list, nil
}

// identity returns a text that differs between storages. One that does not name
// itself is distinct from all others: its options may be secret.
func identity(storage certmagic.Storage) string {
	if named, ok := storage.(fmt.Stringer); ok {
		return named.String()
	}
	return fmt.Sprintf("%T %p", storage, storage)
}
