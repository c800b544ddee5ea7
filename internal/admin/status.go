package admin

import (
	"net/http"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// Status is the state of the module.
type Status struct {
	// Version is that of the module.
	Version string `json:"version"`
	// Time is when this was true.
	Time time.Time `json:"time"`
	// Handlers are the stale_session handlers of the configuration.
	Handlers []HandlerStatus `json:"handlers"`
	// Databases are those that users are looked up in.
	Databases []DatabaseStatus `json:"databases"`
	// Counters are the totals of the metrics with the same names.
	Counters telemetry.Totals `json:"counters"`
}

// HandlerStatus is the state of a handler.
type HandlerStatus struct {
	// Mode is enforce or observe.
	Mode string `json:"mode"`
	// Database names one of Status.Databases.
	Database string `json:"database"`
}

// DatabaseStatus is the state of a directory.
type DatabaseStatus struct {
	// Name names it, without a user or a password.
	Name string `json:"name"`
	// Health is ok, away (it cannot be asked) or unwatched (changes are
	// noticed late).
	Health string `json:"health"`
	// Error is the failure that lasts, with what to do.
	Error string `json:"error,omitempty"`
	// Users is what was found of the users table.
	Users string `json:"users,omitempty"`
	// Watched tells whether changes are noticed, Notified whether triggers
	// tell of them at once, Braking whether no session is ended because too
	// many would be.
	Watched  bool `json:"watched"`
	Notified bool `json:"notified"`
	Braking  bool `json:"braking"`
	// Resets, Rechecked and Notifications count.
	Resets        uint64 `json:"resets"`
	Rechecked     uint64 `json:"rechecked"`
	Notifications uint64 `json:"notifications"`
	// Connections and Busy are those for lookups.
	Connections int32 `json:"connections"`
	Busy        int32 `json:"busy"`
	// Accounts is the cache of accounts.
	Accounts cache.Stats `json:"accounts"`
	// Revoked are sessions that were ended by hand, the latest first, 100 at
	// most.
	Revoked []revocation.Revocation `json:"revoked"`
}

// maxRevoked bounds DatabaseStatus.Revoked.
const maxRevoked = 100

func status(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, statusNow())
}

func statusNow() Status {
	s := Status{
		Version: telemetry.Version(), Time: time.Now().UTC(), Counters: telemetry.Count(),
		Handlers: []HandlerStatus{}, Databases: []DatabaseStatus{},
	}
	revoked := make(map[*directory.Postgres]*revocation.List)
	for _, site := range sites() {
		s.Handlers = append(s.Handlers, HandlerStatus{site.Mode, site.Directory.String()})
		revoked[site.Directory] = site.Revoked
	}
	for _, d := range distinct(func(s Site) *directory.Postgres { return s.Directory }) {
		s.Databases = append(s.Databases, statusOf(d, revoked[d]))
	}
	return s
}

func statusOf(d *directory.Postgres, revoked *revocation.List) DatabaseStatus {
	stats := d.Stats()
	all := revoked.All()
	s := DatabaseStatus{
		Name: d.String(), Health: "ok", Error: stats.Failure, Users: stats.Users,
		Watched: stats.Watching, Notified: stats.Notified, Braking: stats.Braking,
		Resets: stats.Epochs, Rechecked: stats.Rechecked, Notifications: stats.Notifications,
		Connections: stats.Connections, Busy: stats.Busy, Accounts: stats.Accounts,
		Revoked: all[:min(len(all), maxRevoked)],
	}
	switch {
	case stats.Failure != "":
		s.Health = "away"
	case stats.Blind:
		s.Health = "unwatched"
	}
	return s
}
