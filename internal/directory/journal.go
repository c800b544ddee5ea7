package directory

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// How often the same thing is logged.
const (
	failurePeriod = 30 * time.Second
	doubtPeriod   = 30 * time.Second
)

// journal logs what happens to the database: each kind of failure once in a
// while with a count, and the end of a failure.
type journal struct {
	logger   func() *zap.Logger
	happened func(Event, map[string]any)

	mu      sync.Mutex
	failing map[Class]*failing
	summary string
	failure string // that lasts
	doubted time.Time
	warned  time.Time

	lasts  atomic.Bool  // failure is set
	away   atomic.Bool  // a failure was logged since the last success
	blind  atomic.Bool  // changes are not watched for
	found  atomic.Bool  // a subject was found once
	absent atomic.Int64 // subjects that were not, until then
}

// failing counts the failures of a class.
type failing struct {
	logged time.Time
	held   int // since then
}

// failed logs a failure, or counts it.
func (j *journal) failed(err error) {
	var e *Error
	if !errors.As(err, &e) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failing == nil {
		j.failing = make(map[Class]*failing)
	}
	f := j.failing[e.Class]
	if f == nil {
		f = new(failing)
		j.failing[e.Class] = f
	}
	j.failure = e.Error()
	j.lasts.Store(true)
	now := time.Now()
	if now.Sub(f.logged) < failurePeriod {
		f.held++
		return
	}
	j.logger().Error("accounts cannot be looked up; sessions are neither ended nor confirmed",
		zap.String("class", string(e.Class)), zap.Error(err), zap.Int("not_logged", f.held))
	f.logged, f.held = now, 0
	if !j.away.Swap(true) {
		j.happened(Unreachable, map[string]any{"class": string(e.Class), "error": e.Error()})
	}
}

// succeeded logs the end of a failure.
func (j *journal) succeeded() {
	if !j.lasts.Load() {
		return
	}
	j.mu.Lock()
	j.failure = ""
	j.lasts.Store(false)
	j.mu.Unlock()
	if j.away.Swap(false) {
		j.logger().Info("accounts can be looked up again")
		j.happened(Recovered, nil)
	}
}

// ready logs what was found in the catalogue, when it is not what was found
// before.
func (j *journal) ready(s *statement) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if summary := strings.TrimSpace(s.table + " " + s.summary); summary != j.summary {
		j.summary = summary
		j.logger().Info("users are looked up", zap.String("table", s.table), zap.String("columns", s.summary))
	}
}

// state returns the failure that lasts, and what was found in the catalogue.
func (j *journal) state() (failure, users string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failure, j.summary
}

// suspicious tells whether it is time to doubt the configuration, after one
// more subject was not found.
func (j *journal) suspicious(now time.Time) bool {
	if j.found.Load() {
		return false
	}
	j.absent.Add(1)
	j.mu.Lock()
	defer j.mu.Unlock()
	if now.Sub(j.doubted) < doubtPeriod {
		return false
	}
	j.doubted = now
	return true
}

// unwatched logs that changes are not watched for, at once and then once in a
// while.
func (j *journal) unwatched(err error) {
	j.blind.Store(true)
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	if now.Sub(j.warned) < failurePeriod {
		return
	}
	j.warned = now
	j.logger().Warn("the database is not watched for changes; accounts are used for a few seconds only", zap.Error(classify(err)))
}

// watched logs that they are again.
func (j *journal) watched() {
	if j.blind.Load() && j.blind.CompareAndSwap(true, false) {
		j.logger().Info("the database is watched for changes")
	}
}

// hearing logs what notifications are worth.
func (j *journal) hearing(h hearing, poll time.Duration) {
	switch h {
	case told:
		j.logger().Info("changes of users are notified")
	case untold:
		j.logger().Info("the users table has no triggers that notify: changes are noticed within the poll interval; `caddy stale-session install` makes that at once", zap.Duration("poll", poll))
	case swallowed:
		j.logger().Warn("notifications of the database do not arrive, as behind a transaction pooler: changes are noticed within the poll interval; `listen_database` with the direct address makes that at once", zap.Duration("poll", poll))
	}
}
