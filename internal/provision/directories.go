package provision

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
)

var engines = shared.NewPool[*accounts.Engine]()

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
