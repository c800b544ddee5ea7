package provision

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/sessiontable"
	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
)

var engines = shared.NewPool[*accounts.Engine]()

var tables = shared.NewPool[*sessiontable.Table]()

// rows is a module whose database may have a table of sessions: Postgres.
type rows interface {
	Rows(of formats.Store) postgres.DatabaseOptions
	directories.Resolver
}

// Sessions acquires the place where the app keeps its sessions; nil if there is none,
// or if it is a table and the users are elsewhere than in Postgres. It logs nothing and
// is not counted: an app may well have no such table.
func (r *Resources) Sessions(module directories.Module, store formats.Store, config accounts.Config) (*sessiontable.Table, error) {
	var resolved string
	var open func() (directories.Directory, error)
	database, isPostgres := module.(rows)
	switch {
	case store.Redis != "":
		open = func() (directories.Directory, error) { return openSessions(store) }
	case isPostgres && store.Table != "":
		var err error
		if resolved, err = database.Resolved(); err != nil {
			return nil, err
		}
		of := database.Rows(store).Config()
		of.Logger = nil
		open = func() (directories.Directory, error) { return postgres.Open(of) }
	default:
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	config.Observer, config.Logger = nil, nil
	config.Streams = nil // their subjects are users
	distinct := struct {
		Resolved string
		Store    formats.Store
		Config   accounts.Config
	}{resolved, store, config}
	return acquire(r, tables, distinct, func() (*sessiontable.Table, func() error, error) {
		directory, err := open()
		if err != nil {
			return nil, nil, err
		}
		opened := sessiontable.Open(accounts.Open(directory, config), store.Redis == "")
		return opened, opened.Close, nil
	})
}

// Engines returns the engines in use.
func Engines() []*accounts.Engine { return engines.All() }

// InUse reports whether an engine is in use.
func InUse(engine *accounts.Engine) bool { return slices.Contains(Engines(), engine) }

// Accounts acquires the engine of a module's directory. Handlers whose module and
// configuration are the same share one.
func (r *Resources) Accounts(module directories.Module, config accounts.Config) (*accounts.Engine, error) {
	text, err := json.Marshal(module)
	if err != nil {
		return nil, err
	}
	distinct := struct {
		Module, JSON, Resolved string
		Config                 accounts.Config
	}{Module: fmt.Sprintf("%T", module), JSON: string(text), Config: config}
	if resolver, ok := module.(directories.Resolver); ok {
		if distinct.Resolved, err = resolver.Resolved(); err != nil {
			return nil, err
		}
	}
	return acquire(r, engines, distinct, func() (*accounts.Engine, func() error, error) {
		directory, err := module.OpenDirectory()
		if err != nil {
			return nil, nil, err
		}
		engine := accounts.Open(directory, config)
		return engine, engine.Close, nil
	})
}

var evidence = shared.NewPool[*session.Evidence]()

// Evidence acquires what the users of an engine prove of the sessions of a reader. Both
// must have been acquired before.
func (r *Resources) Evidence(reader *session.Reader, users *accounts.Engine) (*session.Evidence, error) {
	distinct := []string{fmt.Sprintf("%p", reader), fmt.Sprintf("%p", users)}
	return acquire(r, evidence, distinct, func() (*session.Evidence, func() error, error) {
		return reader.NewEvidence(), func() error { return nil }, nil
	})
}
