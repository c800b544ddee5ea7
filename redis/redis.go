// Package redis adds Redis and Valkey to the module: users and sessions that are kept
// there, and revocations that nodes share through it. The client is larger than the
// rest of the module, so who has no Redis leaves it out:
//
//	xcaddy build --with github.com/seed-4adef13c/caddy-stale-session \
//		--with github.com/seed-4adef13c/caddy-stale-session/redis
package redis

import (
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/redis"
)

// Interface guard
var _ provision.Redis = (*redis.Module)(nil)
