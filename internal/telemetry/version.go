package telemetry

import "runtime/debug"

// modulePath is the path of this Go module.
const modulePath = "github.com/seed-4adef13c/caddy-stale-session"

// Version returns the version of the module in this Caddy.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == modulePath {
		return info.Main.Version
	}
	for _, module := range info.Deps {
		if module.Path == modulePath {
			return module.Version
		}
	}
	return "unknown"
}
