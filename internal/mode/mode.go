// Package mode has the modes of a handler, and says what changes them.
package mode

import (
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// The modes.
const (
	// Enforce: stale sessions end.
	Enforce = "enforce"
	// Observe: they are logged and counted only.
	Observe = "observe"
	// Off: nothing is checked.
	Off = "off"
)

// Variable is the variable that the option `mode` reads by default.
const Variable = "STALE_SESSION_MODE"

// Announce logs that a configuration with a mode turns handlers off, or on again. The
// modes before are those of the handlers that are still in use.
func Announce(log *zap.Logger, before []string, now string) {
	switch {
	case slices.Contains(before, now):
	case now == Off:
		log.Warn("mode off: sessions are not checked, and stale ones reach the app; if the mode is from " + Variable + " of this reload, the next reload without it undoes this")
	case now == Observe:
		log.Warn("mode observe: stale sessions are logged, and reach the app; if the mode is from " + Variable + " of this reload, the next reload without it undoes this")
	case len(before) > 0:
		log.Warn("mode enforce: stale sessions are answered again; the configuration before had another mode, and if that was from "+Variable+" of a reload, this reload, without it, has undone it", zap.Strings("before", before))
	}
}

// advised is done once a command has warned of the variable.
var advised sync.Once

// Advise warns whoever runs `caddy reload` with the variable of what it does, given the
// option `mode`: their environment is not Caddy's own.
func Advise(option string) {
	value := os.Getenv(Variable)
	if value == "" || value == Enforce || len(os.Args) < 2 || os.Args[1] != "reload" {
		return
	}
	var advice string
	switch {
	case option == value:
		advice = "the mode is from " + Variable + " of this reload: the next reload without it undoes this; to keep it, write `mode " + value + "` into the Caddyfile"
	case option == "" || strings.Contains(option, "{env."+Variable):
		advice = Variable + " of a reload has no effect, only that of the process: write `mode {$" + Variable + ":" + Enforce + "}` into the Caddyfile"
	default:
		return
	}
	advised.Do(func() { caddy.Log().Named("http.handlers.stale_session").Warn(advice) })
}
