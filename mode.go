package stalesession

import (
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/admin"
)

// modeVariable is the variable that the option mode reads by default.
const modeVariable = "STALE_SESSION_MODE"

// announceMode logs that a configuration turns the handlers off, or on again. Those of
// the configuration before are still in use.
func (h *Handler) announceMode(log *zap.Logger) {
	before := admin.Modes()
	switch {
	case slices.Contains(before, h.mode):
	case h.mode == modeOff:
		log.Warn("mode off: sessions are not checked, and stale ones reach the app; if the mode is from " + modeVariable + " of this reload, the next reload without it undoes this")
	case h.mode == modeObserve:
		log.Warn("mode observe: stale sessions are logged, and reach the app; if the mode is from " + modeVariable + " of this reload, the next reload without it undoes this")
	case len(before) > 0:
		log.Warn("mode enforce: stale sessions are answered again; the configuration before had another mode, and if that was from "+modeVariable+" of a reload, this reload, without it, has undone it", zap.Strings("before", before))
	}
}

// advised is done once a command has warned of the variable.
var advised sync.Once

// adviseOfVariable warns whoever runs `caddy reload` with the variable of what it does:
// their environment is not Caddy's own.
func (h *Handler) adviseOfVariable() {
	value := os.Getenv(modeVariable)
	if value == "" || value == modeEnforce || len(os.Args) < 2 || os.Args[1] != "reload" {
		return
	}
	var advice string
	switch {
	case h.Mode == value:
		advice = "the mode is from " + modeVariable + " of this reload: the next reload without it undoes this; to keep it, write `mode " + value + "` into the Caddyfile"
	case h.Mode == "" || strings.Contains(h.Mode, "{env."+modeVariable):
		advice = modeVariable + " of a reload has no effect, only that of the process: write `mode {$" + modeVariable + ":" + modeEnforce + "}` into the Caddyfile"
	default:
		return
	}
	advised.Do(func() { caddy.Log().Named("http.handlers.stale_session").Warn(advice) })
}
