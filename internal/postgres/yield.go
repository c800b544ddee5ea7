package postgres

import (
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// yieldFor is how long the watch leaves its connection to lookups.
const yieldFor = 30 * time.Second

// errYielded is why the watch has no connection.
var errYielded = &directories.Error{Class: directories.Down, Code: "53300", Text: states["53300"].text}

// yieldIf leaves the connection of the watch to lookups if they get none: the role
// may have no other. Lookups come first, as accounts also expire.
func (d *Directory) yieldIf(err error) {
	if sqlState(err) == "53300" {
		d.yielded.Store(time.Now().Add(yieldFor).UnixNano())
	}
}

// yields reports whether the watch is to have no connection.
func (d *Directory) yields() bool { return time.Now().UnixNano() < d.yielded.Load() }
