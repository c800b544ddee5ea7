package admin

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/streams"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/unread"
)

// Status is the state of the module.
type Status struct {
	// Version is the version of the module.
	Version string `json:"version"`
	// Time is when this state was read.
	Time time.Time `json:"time"`
	// Started is when the process started.
	Started time.Time `json:"started"`
	// Handlers are the stale_session handlers of the configuration.
	Handlers []HandlerStatus `json:"handlers"`
	// Databases are the databases that users are looked up in, each once.
	Databases []DatabaseStatus `json:"databases"`
	// Unread is what looks like a session and is read by nothing, by name.
	Unread []unread.Found `json:"unread"`
	// Counters are what the metrics counted since Started.
	Counters telemetry.Totals `json:"counters"`
	// Latest is the latest sample of the history; nil if there is none yet.
	Latest *telemetry.Sample `json:"latest,omitempty"`
	// Actions reports whether flush, revoke and restore are allowed here.
	Actions bool `json:"actions"`
}

// HandlerStatus is the state of a handler.
type HandlerStatus struct {
	// Mode is enforce, observe or off.
	Mode string `json:"mode"`
	// Database is the name of its database in Status.Databases; empty with mode
	// off.
	Database string `json:"database,omitempty"`
}

// DatabaseStatus is the state of a directory.
type DatabaseStatus struct {
	// Name is its name, without a user or a password.
	Name string `json:"name"`
	// Health is ok, failing (user lookups fail) or unwatched (changes are noticed
	// late).
	Health string `json:"health"`
	// Error says why lookups fail, and what to do; empty when they don't.
	Error string `json:"error,omitempty"`
	// Users describes the users table; empty before the first lookup.
	Users string `json:"users,omitempty"`
	// Watched reports whether changes are noticed.
	Watched bool `json:"watched"`
	// Notified reports whether triggers report changes at once.
	Notified bool `json:"notified"`
	// Advice is what the operator should do, although lookups work; empty for
	// nothing.
	Advice string `json:"advice,omitempty"`
	// Braking reports whether no session is ended, because too many would be.
	Braking bool `json:"braking"`
	// Broken reports whether the circuit breaker is open: no request waits for
	// the database.
	Broken bool `json:"broken"`
	// Resets is how often the users table was recreated, emptied, rewritten or
	// restored.
	Resets uint64 `json:"resets"`
	// Rechecked is how many accounts were looked up again after a change.
	Rechecked uint64 `json:"rechecked"`
	// Notifications is how many change notifications were received.
	Notifications uint64 `json:"notifications"`
	// ResetAt is the time of the latest reset; nil for none.
	ResetAt *time.Time `json:"reset_at,omitempty"`
	// Clocks is what is known of the clocks that write accounts and tokens.
	Clocks *ClocksStatus `json:"clocks"`
	// Connections is how many connections for lookups are open.
	Connections int32 `json:"connections"`
	// Busy is how many of them are in use.
	Busy int32 `json:"busy"`
	// Streams is how many requests with a session are under way, and end when it does.
	Streams int `json:"streams"`
	// Accounts is the state of the cache of accounts.
	Accounts cache.Stats `json:"accounts"`
	// Revoked are revoked sessions, the latest first, 100 at most.
	Revoked []revocation.Revocation `json:"revoked"`
	// Unshared reports whether revocations are out of sync with the other nodes.
	Unshared bool `json:"unshared"`
}

// started is about when this process started.
var started = time.Now().UTC()

// maxRevoked is the most revocations in a DatabaseStatus.
const maxRevoked = 100

// History is the response to history.
type History struct {
	// Samples are those of the last hour, the oldest first.
	Samples []telemetry.Sample `json:"samples"`
}

func (*Panel) history(w http.ResponseWriter, _ *http.Request) error {
	samples := []telemetry.Sample{}
	if h := history(); h != nil {
		samples = append(samples, h.Samples()...)
	}
	return writeJSON(w, http.StatusOK, History{samples})
}

func (p *Panel) status(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, p.currentStatus())
}

func (p *Panel) currentStatus() Status {
	s := Status{
		Version: telemetry.Version(), Time: time.Now().UTC(), Started: started, Counters: telemetry.Count(),
		Handlers: []HandlerStatus{}, Databases: []DatabaseStatus{}, Unread: unreadSessions(), Actions: p.Actions,
	}
	if h := history(); h != nil {
		s.Latest = h.Last()
	}
	revoked := make(map[*accounts.Engine][]*revocation.List)
	for _, h := range handlers() {
		if h.Accounts == nil {
			s.Handlers = append(s.Handlers, HandlerStatus{Mode: h.Mode})
			continue
		}
		s.Handlers = append(s.Handlers, HandlerStatus{h.Mode, h.Accounts.String()})
		if !slices.Contains(revoked[h.Accounts], h.Revoked) {
			revoked[h.Accounts] = append(revoked[h.Accounts], h.Revoked)
		}
	}
	underWay := streams.Open.Count()
	engines := make(map[string][]*accounts.Engine)
	for _, d := range openDirectories() {
		if name := d.String(); len(engines[name]) == 0 {
			s.Databases = append(s.Databases, DatabaseStatus{Name: name})
		}
		engines[d.String()] = append(engines[d.String()], d)
	}
	for i := range s.Databases {
		all := engines[s.Databases[i].Name]
		var lists []*revocation.List
		for _, d := range all {
			lists = append(lists, revoked[d]...)
		}
		name := s.Databases[i].Name
		s.Databases[i] = databaseStatus(all, lists)
		s.Databases[i].Streams = underWay[name]
	}
	return s
}

// unreadSessions returns what is read by nothing, of all handlers.
func unreadSessions() []unread.Found {
	all := []unread.Found{}
	for _, h := range handlers() {
		if h.Reader == nil {
			continue
		}
		for _, found := range h.Reader.Unread() {
			if !slices.Contains(all, found) {
				all = append(all, found)
			}
		}
	}
	slices.SortFunc(all, func(a, b unread.Found) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// databaseStatus returns the state of the engines of one database, of which handlers
// with different options have one each: the worst, and the sums.
func databaseStatus(engines []*accounts.Engine, lists []*revocation.List) DatabaseStatus {
	all := revocation.AllOf(lists)
	s := DatabaseStatus{
		Name: engines[0].String(), Health: "ok", Clocks: clocksStatus(engines[0].Clocks().Known()), Watched: true, Notified: true,
		Revoked: all[:min(len(all), maxRevoked)], Unshared: slices.ContainsFunc(lists, (*revocation.List).OutOfSync),
	}
	for _, engine := range engines {
		s.add(engine.Stats())
	}
	return s
}

// add adds the state of an engine.
func (s *DatabaseStatus) add(stats accounts.Stats) {
	switch {
	case stats.Failure != "":
		s.Health, s.Error = "failing", stats.Failure
	case stats.Blind && s.Health == "ok":
		s.Health = "unwatched"
	}
	s.Users, s.Advice = cmp.Or(s.Users, stats.Users), cmp.Or(s.Advice, stats.Advice)
	s.Watched, s.Notified = s.Watched && stats.Watching, s.Notified && stats.Notified
	s.Braking, s.Broken = s.Braking || stats.Braking, s.Broken || stats.Broken
	s.Resets = max(s.Resets, stats.Epochs)
	s.Rechecked += stats.Rechecked
	s.Notifications += stats.Notifications
	s.Connections += stats.Connections
	s.Busy += stats.Busy
	s.Accounts = s.Accounts.Plus(stats.Accounts)
	if at := stats.ResetAt; !at.IsZero() && (s.ResetAt == nil || at.After(*s.ResetAt)) {
		s.ResetAt = &at
	}
}
