package accounts

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

const (
	// logPeriod is how often the same problem is logged.
	logPeriod = 30 * time.Second
	// doubtPeriod is how long a doubt is shown that is neither renewed nor dispelled.
	doubtPeriod = 10 * time.Minute
)

// maxProblems is how many problems are told apart.
const maxProblems = 64

// journal logs how a directory fares: each problem once a period with a count, and
// recovery.
type journal struct {
	logger   func() *zap.Logger
	happened func(Event, map[string]any)

	mu       sync.Mutex
	problems map[problem]*failures
	failure  string // of the last lookup
	doubt    string // of the last confirmation
	doubtAt  time.Time
	warned   time.Time

	lasts    atomic.Bool // failure is set
	doubting atomic.Bool // doubt is set
	away     atomic.Bool // a failure was logged since the last success
	blind    atomic.Bool // changes are not noticed
}

// problem is what is logged once a period: a class of failures, or one that the
// directory has answered with, because that says what to change.
type problem struct {
	class directories.Class
	text  string
}

// failures counts those of a problem.
type failures struct {
	logged     time.Time
	suppressed int // since then
}

// failed logs a failure, or counts it.
func (j *journal) failed(err error) {
	e := classified(err)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failure = e.Error()
	j.lasts.Store(true)
	if j.log(e) && !j.away.Swap(true) {
		j.happened(Unreachable, map[string]any{"class": string(e.Class), "error": e.Error()})
	}
}

// unknown logs why nothing is known of one subject. That it is not proven that its
// session must end lasts until something is: lookups of others succeed meanwhile.
func (j *journal) unknown(err error) {
	e := classified(err)
	if e.Class != directories.Unproven && e.Class != directories.Standby {
		j.failed(err)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.doubt, j.doubtAt = e.Error(), time.Now()
	j.doubting.Store(true)
	j.log(e)
}

// proven records that a confirmation has proven what it found.
func (j *journal) proven() {
	if !j.doubting.Load() {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.doubt = ""
	j.doubting.Store(false)
}

// log logs a problem once a period, and reports whether it did. The caller holds
// j.mu.
func (j *journal) log(e *directories.Error) bool {
	now := time.Now()
	f := j.failures(e, now)
	if now.Sub(f.logged) < logPeriod {
		f.suppressed++
		return false
	}
	j.logger().Error("user lookup failed; sessions pass unchecked",
		zap.String("class", string(e.Class)), zap.Error(e), zap.Int("suppressed", f.suppressed))
	f.logged, f.suppressed = now, 0
	return true
}

// failures returns the count of a problem.
func (j *journal) failures(e *directories.Error, now time.Time) *failures {
	p := problem{class: e.Class}
	if answered(e) {
		p.text = e.Text
	}
	if f := j.problems[p]; f != nil {
		return f
	}
	maps.DeleteFunc(j.problems, func(_ problem, f *failures) bool { return now.Sub(f.logged) >= logPeriod })
	if len(j.problems) >= maxProblems { // there are not so many lines to log either
		p.text = ""
	}
	if j.problems == nil {
		j.problems = make(map[problem]*failures)
	}
	if j.problems[p] == nil {
		j.problems[p] = new(failures)
	}
	return j.problems[p]
}

// succeeded logs recovery.
func (j *journal) succeeded() {
	if !j.lasts.Load() {
		return
	}
	j.mu.Lock()
	j.failure = ""
	j.lasts.Store(false)
	j.mu.Unlock()
	if j.away.Swap(false) {
		j.logger().Info("user lookup recovered")
		j.happened(Recovered, nil)
	}
}

// lastFailure returns the failure of the last lookup, or else why the last
// confirmation has proven nothing; empty if both succeeded.
func (j *journal) lastFailure() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure == "" && time.Since(j.doubtAt) < doubtPeriod {
		return j.doubt
	}
	return j.failure
}

// unwatched logs, at once and then once a period, that changes are not noticed.
func (j *journal) unwatched(err error) {
	j.blind.Store(true)
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	if now.Sub(j.warned) < logPeriod {
		return
	}
	j.warned = now
	j.logger().Warn("lost the connection that watches for changes; cached users expire after 5s", zap.Error(classified(err)))
}

// watched logs that changes are noticed again.
func (j *journal) watched() {
	if j.blind.Load() && j.blind.CompareAndSwap(true, false) {
		j.logger().Info("watching the database for changes")
	}
}
