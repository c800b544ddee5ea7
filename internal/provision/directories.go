package provision

import (
	"bytes"
	"crypto/sha256"
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

var engines = shared.NewPool[engine]()

// engine is one in use, and what it was opened with.
type engine struct {
	*accounts.Engine
	of     origin
	config accounts.Config
}

// origin tells directories apart that were opened with different options. It is a
// digest: these may have secrets.
type origin [sha256.Size]byte

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
	config.Observer, config.Logger, config.Passing = nil, nil, true // streams that end with it are swept
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
		opened := sessiontable.Open(directory, config, store.Redis == "")
		return opened, opened.Close, nil
	})
}

// Engines returns the engines in use.
func Engines() []*accounts.Engine {
	var all []*accounts.Engine
	for _, e := range engines.All() {
		all = append(all, e.Engine)
	}
	return all
}

// Braking reports whether an engine in use brakes that has a name.
func Braking(name string) bool {
	return slices.ContainsFunc(engines.All(), func(e engine) bool { return e.String() == name && e.Braking() })
}

// Lookups returns the configuration with which an engine in use asks the directory of a
// module: the given one, if there is one of it. It reports false if there is none, but
// such as are passing.
func Lookups(module directories.Module, config accounts.Config) (accounts.Config, bool) {
	of, err := originOf(module)
	if err != nil { // whoever acquires it hears of it
		return config, false
	}
	alike := slices.DeleteFunc(engines.All(), func(e engine) bool { return e.of != of || e.config.Passing })
	given, _ := json.Marshal(config) // has nothing that fails
	same := func(e engine) bool {
		its, _ := json.Marshal(e.config)
		return bytes.Equal(its, given)
	}
	if len(alike) > 0 && !slices.ContainsFunc(alike, same) {
		config = alike[0].config
	}
	return config, len(alike) > 0
}

// originOf returns that of a module's directory.
func originOf(module directories.Module) (origin, error) {
	text, err := json.Marshal(module)
	if err != nil {
		return origin{}, err
	}
	distinct := []string{fmt.Sprintf("%T", module), string(text)}
	if resolver, ok := module.(directories.Resolver); ok {
		resolved, err := resolver.Resolved()
		if err != nil {
			return origin{}, err
		}
		distinct = append(distinct, resolved)
	}
	text, err = json.Marshal(distinct)
	return sha256.Sum256(text), err
}

// Accounts acquires the engine of a module's directory. Handlers whose module and
// configuration are the same share one.
func (r *Resources) Accounts(module directories.Module, config accounts.Config) (*accounts.Engine, error) {
	of, err := originOf(module)
	if err != nil {
		return nil, err
	}
	distinct := struct {
		Of     origin
		Config accounts.Config
	}{of, config}
	acquired, err := acquire(r, engines, distinct, func() (engine, func() error, error) {
		directory, err := module.OpenDirectory()
		if err != nil {
			return engine{}, nil, err
		}
		opened := accounts.Open(directory, config)
		return engine{opened, of, config}, opened.Close, nil
	})
	return acquired.Engine, err
}

var findings = shared.NewPool[*session.Findings]()

// Findings acquires of which libraries an engine has found users. The engine must have
// been acquired before.
func (r *Resources) Findings(users *accounts.Engine) (*session.Findings, error) {
	return acquire(r, findings, fmt.Sprintf("%p", users), func() (*session.Findings, func() error, error) {
		return session.NewFindings(), func() error { return nil }, nil
	})
}
