package provision

import (
	"encoding/json"
	"fmt"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
)

var engines = shared.NewPool[*accounts.Engine]()

// Engines returns the engines in use.
func Engines() []*accounts.Engine { return engines.All() }

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
