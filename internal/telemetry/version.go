package telemetry

import (
	"runtime/debug"
	"sync"
)

// modulePath is the path of this Go module.
const modulePath = "github.com/seed-4adef13c/caddy-stale-session"

// Version returns the version of the module in this Caddy, or "unknown".
func Version() string { return version() }

// version parses the build information once, which is long.
var version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, module := range append(info.Deps, &info.Main) {
		if module.Path == modulePath {
			return module.Version
		}
	}
	return "unknown"
})
