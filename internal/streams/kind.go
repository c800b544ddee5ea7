package streams

import (
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// kind is a kind of stream.
type kind byte

const (
	request   kind = iota // has no response yet, such as a long poll or an upload
	response              // any that is under way, but for the following
	events                // server-sent events
	upgrade               // to another protocol than WebSocket
	webSocket             // in any version of HTTP
)

var kinds = []string{"request", "response", "events", "upgrade", "websocket"}

func (k kind) String() string { return kinds[k] }

// lasts reports whether a stream goes on for ever by itself.
func (k kind) lasts() bool { return k >= events }

// upgraded reports whether it is no more a response.
func (k kind) upgraded() bool { return k >= upgrade }

func init() { telemetry.ExpectStreams(kinds, append(slices.Clone(verdict.Reasons), Expired)) }

// Expired is the reason when the token of a stream has expired.
const Expired verdict.Reason = "token_expired"
