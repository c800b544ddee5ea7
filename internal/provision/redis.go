package provision

import (
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// Redis is the module `directory redis`, and what else is kept in Redis. It is a
// package of its own, because its client is large.
type Redis interface {
	directories.Module

	// OpenSessions returns the directory of the sessions that a library keeps in
	// Redis.
	OpenSessions(of formats.Store) (directories.Directory, error)

	// OpenRevocations returns the store of the revocations of a users table, by the
	// name of the users. It calls url for each connection.
	OpenRevocations(url func() (string, error), name string, life time.Duration) (revocation.Remote, error)
}

// errNoRedis says how to get the module.
var errNoRedis = errors.New("this Caddy is built without Redis: add `--with github.com/seed-4adef13c/caddy-stale-session/redis` to the command `xcaddy build`, or use a release, which has it")

// Linked returns an error if a directory is not in this Caddy, although it comes with
// the module.
func Linked(directory string) error {
	if directory != "redis" {
		return nil
	}
	_, err := redis()
	return err
}

// redis returns the module, or an error that says how to get it.
func redis() (Redis, error) {
	info, err := caddy.GetModule(directories.Namespace + ".redis")
	if err != nil {
		return nil, errNoRedis
	}
	module, ok := info.New().(Redis)
	if !ok {
		return nil, errNoRedis
	}
	return module, nil
}

// openSessions returns the directory of the sessions that a library keeps in Redis.
func openSessions(of formats.Store) (directories.Directory, error) {
	module, err := redis()
	if err != nil {
		return nil, err
	}
	return module.OpenSessions(of)
}

// OpenRevocations returns the store of revocations in a Redis, without connecting. An
// error is one of the URL, or that Redis is not in this Caddy.
func OpenRevocations(url func() (string, error), name string, life time.Duration) (revocation.Remote, error) {
	module, err := redis()
	if err != nil {
		return nil, err
	}
	return module.OpenRevocations(url, name, life)
}
