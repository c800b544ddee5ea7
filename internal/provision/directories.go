package provision

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
)

// Where users are looked up, by what makes it distinct.
var (
	opened = shared.NewPool[directory.Directory]()
	chains = shared.NewPool[directory.Directory]()
)

// Directories returns the directories in use, without chains of them.
func Directories() []directory.Directory { return opened.All() }

// Modules look users up, the first to be asked first.
type Modules []any

// Matched returns the claims that have to equal columns, in the order in which
// both are compared.
func (m Modules) Matched() ([]string, error) {
	var all [][]string
	for _, module := range m {
		matching, ok := module.(interface{ MatchedClaims() []string })
		if !ok {
			return nil, fmt.Errorf("%T is no directory", module)
		}
		all = append(all, matching.MatchedClaims())
	}
	for _, claims := range all[1:] {
		if !slices.Equal(claims, all[0]) {
			return nil, fmt.Errorf("one directory matches the claims %q and another %q: all have to match the same", all[0], claims)
		}
	}
	return all[0], nil
}

// Postgres returns the last of the modules that is Postgres.
func (m Modules) Postgres() (postgres directories.Postgres, found bool) {
	for _, module := range slices.Backward(m) {
		if postgres, found = asPostgres(module); found {
			break
		}
	}
	return postgres, found
}

func asPostgres(module any) (directories.Postgres, bool) {
	switch module := module.(type) {
	case directories.Postgres: // which the handler's own options stand for
		return module, true
	case *directories.Postgres:
		return *module, true
	}
	return directories.Postgres{}, false
}

// Directory takes what looks users up. Config says how accounts are kept.
func (h *Held) Directory(modules Modules, config directory.Config) (directory.Directory, error) {
	var all []directory.Directory
	var links []string // which directories these are, and not only where: others there may be of other users
	for _, module := range modules {
		one, err := h.openOne(module, config)
		if err != nil {
			return nil, err
		}
		all, links = append(all, one), append(links, fmt.Sprintf("%p", one))
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return take(h, chains, links, func() (directory.Directory, func() error, error) {
		return directory.NewChain(all...), func() error { return nil }, nil
	})
}

func (h *Held) openOne(module any, config directory.Config) (directory.Directory, error) {
	if postgres, ok := asPostgres(module); ok {
		return h.openPostgres(postgres, config)
	}
	if module, ok := module.(directories.Module); ok {
		return h.openModule(module, config)
	}
	return nil, fmt.Errorf("%T is no directory", module)
}

// openPostgres takes the directory of a database and a users table.
func (h *Held) openPostgres(p directories.Postgres, config directory.Config) (directory.Directory, error) {
	config, err := p.Config(config)
	if err != nil {
		return nil, err
	}
	distinct := struct {
		directory.Config
		DSN, Database, ListenDSN, ListenDatabase string
	}{Config: config, Database: p.Database, ListenDatabase: p.ListenDatabase}
	if distinct.DSN, err = config.DSN(); err != nil {
		return nil, fmt.Errorf("%w; set DATABASE_URL in Caddy's environment to the app's database, or add `database`", err)
	}
	if config.ListenDSN != nil {
		if distinct.ListenDSN, err = config.ListenDSN(); err != nil {
			return nil, err
		}
	}
	return take(h, opened, distinct, func() (directory.Directory, func() error, error) {
		postgres, err := directory.Open(config)
		if err != nil {
			return nil, nil, err
		}
		return postgres, func() error { postgres.Close(); return nil }, nil
	})
}

// openModule takes the directory of a module, which handlers share that have
// the same.
func (h *Held) openModule(module directories.Module, config directory.Config) (directory.Directory, error) {
	text, err := json.Marshal(module)
	if err != nil {
		return nil, err
	}
	distinct := struct {
		Module, JSON, Resolved string
		Config                 directory.Config
	}{Module: fmt.Sprintf("%T", module), JSON: string(text), Config: config}
	if placed, ok := module.(interface{ Resolved() (string, error) }); ok {
		if distinct.Resolved, err = placed.Resolved(); err != nil {
			return nil, err
		}
	}
	return take(h, opened, distinct, func() (directory.Directory, func() error, error) {
		finder, err := module.OpenDirectory()
		if err != nil {
			return nil, nil, err
		}
		cached := directory.OpenCached(finder, config)
		return cached, cached.Close, nil
	})
}
