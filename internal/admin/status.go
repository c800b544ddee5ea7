package admin

import (
	"net/http"
	"slices"
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
	// Started is when this process was started, from when counters count.
	Started time.Time `json:"started"`
	// Handlers are the stale_session handlers of the configuration.
	Handlers []HandlerStatus `json:"handlers"`
	// Databases are those that users are looked up in.
	Databases []DatabaseStatus `json:"databases"`
	// Counters are what the metrics counted since Started.
	Counters telemetry.Totals `json:"counters"`
	// Latest is the last sample of the history.
	Latest *telemetry.Sample `json:"latest,omitempty"`
	// Actions tells whether one can flush, revoke and restore where this was
	// asked.
	Actions bool `json:"actions"`
}

// HandlerStatus is the state of a handler.
type HandlerStatus struct {
	// Mode is enforce, observe or off.
	Mode string `json:"mode"`
	// Database names one of Status.Databases; empty with mode off.
	Database string `json:"database,omitempty"`
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
	// Broken tells that the circuit breaker is open: nobody waits for the
	// database, and the last that is known counts.
	Broken bool `json:"broken"`
	// Resets, Rechecked and Notifications count.
	Resets        uint64 `json:"resets"`
	Rechecked     uint64 `json:"rechecked"`
	Notifications uint64 `json:"notifications"`
	// ResetAt is when the users table was last recreated, emptied, rewritten or
	// restored, since Caddy has watched it.
	ResetAt *time.Time `json:"reset_at,omitempty"`
	// Connections and Busy are those for lookups.
	Connections int32 `json:"connections"`
	Busy        int32 `json:"busy"`
	// Accounts is the cache of accounts.
	Accounts cache.Stats `json:"accounts"`
	// Revoked are sessions that were ended by hand, the latest first, 100 at
	// most.
	Revoked []revocation.Revocation `json:"revoked"`
	// Unshared tells that what other nodes revoke is not heard of, or that they
	// do not know yet of all that was revoked here.
	Unshared bool `json:"unshared"`
}

// started is when this process was started, about.
var started = time.Now().UTC()

// maxRevoked bounds DatabaseStatus.Revoked.
const maxRevoked = 100

func (p *Panel) status(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, p.statusNow())
}

// history answers with what was counted in the last hour.
func (*Panel) history(w http.ResponseWriter, _ *http.Request) error {
	samples := []telemetry.Sample{}
	if h := history(); h != nil {
		samples = append(samples, h.Samples()...)
	}
	return answer(w, History{samples})
}

// History is what was counted in the last hour.
type History struct {
	// Samples are some seconds each, in their order.
	Samples []telemetry.Sample `json:"samples"`
}

func (p *Panel) statusNow() Status {
	s := Status{
		Version: telemetry.Version(), Time: time.Now().UTC(), Started: started, Counters: telemetry.Count(),
		Handlers: []HandlerStatus{}, Databases: []DatabaseStatus{}, Actions: p.Actions,
	}
	if h := history(); h != nil {
		s.Latest = h.Last()
	}
	revoked := make(map[directory.Directory][]*revocation.List)
	for _, site := range sites() {
		if site.Directory == nil {
			s.Handlers = append(s.Handlers, HandlerStatus{Mode: site.Mode})
			continue
		}
		s.Handlers = append(s.Handlers, HandlerStatus{site.Mode, site.Directory.String()})
		if !slices.Contains(revoked[site.Directory], site.Revoked) {
			revoked[site.Directory] = append(revoked[site.Directory], site.Revoked)
		}
	}
	for _, d := range distinct(func(s Site) directory.Directory { return s.Directory }) {
		s.Databases = append(s.Databases, statusOf(d, revoked[d]))
	}
	return s
}

func statusOf(d directory.Directory, lists []*revocation.List) DatabaseStatus {
	stats := d.Stats()
	all := revocation.AllOf(lists)
	s := DatabaseStatus{
		Name: d.String(), Health: "ok", Error: stats.Failure, Users: stats.Users,
		Watched: stats.Watching, Notified: stats.Notified, Braking: stats.Braking, Broken: stats.Broken,
		Resets: stats.Epochs, Rechecked: stats.Rechecked, Notifications: stats.Notifications,
		Connections: stats.Connections, Busy: stats.Busy, Accounts: stats.Accounts,
		Revoked: all[:min(len(all), maxRevoked)], Unshared: slices.ContainsFunc(lists, (*revocation.List).Lost),
	}
	if !stats.ResetAt.IsZero() {
		s.ResetAt = &stats.ResetAt
	}
	switch {
	case stats.Failure != "":
		s.Health = "away"
	case stats.Blind:
		s.Health = "unwatched"
	}
	return s
}
