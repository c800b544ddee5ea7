package directory

import (
	"errors"
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
	logger func() *zap.Logger

	mu      sync.Mutex
	failing map[Class]*failing
	summary string
	doubted time.Time

	away   atomic.Bool  // a failure was logged since the last success
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
	now := time.Now()
	if now.Sub(f.logged) < failurePeriod {
		f.held++
		return
	}
	j.logger().Error("accounts cannot be looked up; sessions are neither ended nor confirmed",
		zap.String("class", string(e.Class)), zap.Error(err), zap.Int("not_logged", f.held))
	f.logged, f.held = now, 0
	j.away.Store(true)
}

// succeeded logs the end of a failure.
func (j *journal) succeeded() {
	if j.away.Load() && j.away.CompareAndSwap(true, false) {
		j.logger().Info("accounts can be looked up again")
	}
}

// ready logs what was found in the catalogue, when it is not what was found
// before.
func (j *journal) ready(s *statement) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if summary := s.table + s.summary; summary != j.summary {
		j.summary = summary
		j.logger().Info("users are looked up", zap.String("table", s.table), zap.String("columns", s.summary))
	}
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
