package revocation_test

import (
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/redis"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// The package revocation cannot import that of Redis, which imports it.
func init() {
	revocation.OpenRedis = func(url, name string, life time.Duration) (revocation.Remote, error) {
		return redis.OpenRevocations(func() (string, error) { return url, nil }, name, life)
	}
}
