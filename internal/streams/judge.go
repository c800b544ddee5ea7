package streams

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxWorkers is how many streams are judged at a time. They wait for lookups,
	// which the directory joins: requests wait no longer than for those.
	maxWorkers = 256
	// sweepEvery is how often streams are looked for that nobody gave a hint for in
	// sweepAfter: because changes are not noticed, or because time has passed. What could
	// not be judged is due after sweepEvery, and then after twice as long each time.
	sweepEvery = time.Second
	sweepAfter = 30 * time.Second
	// maxFailures is after how many judgements without a result that is sweepAfter.
	maxFailures = 6
	// minSweep is how many of these are judged at a time at least, and sweepShare
	// which share of all.
	minSweep, sweepShare = 100, 20
	// maxEnding is how many streams end at a time, and maxTurn how long one may keep
	// the others waiting. So requests get their turn while thousands end, and clients
	// that read nothing hold nobody up for long.
	maxEnding = 64
	maxTurn   = 25 * time.Millisecond
	// endRate is how many streams end a second once endBurst have at once, for the same
	// reason. If so many wait that they would take longer than endWithin, more do.
	endRate   = 3000
	endBurst  = 16
	endWithin = time.Second
)

// queue holds the streams that are to be judged again, each once.
type queue struct {
	mu      sync.Mutex
	waiting []*Stream
	working int

	ending chan struct{} // has one for each stream that ends
	pace   *rate.Limiter // of ends
}

func (q *queue) put(s *Stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, s)
	if q.working < maxWorkers {
		q.working++
		go q.work()
	}
}

func (q *queue) work() {
	for s := q.take(); s != nil; s = q.take() {
		s.judge()
	}
}

// take returns the next stream, or nil, and then the worker ends.
func (q *queue) take() *Stream {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.waiting = nil
		q.working--
		return nil
	}
	s := q.waiting[0]
	q.waiting[0], q.waiting = nil, q.waiting[1:]
	return s
}

// hint has the stream judged again.
func (s *Stream) hint(swept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state == judging:
		s.hinted = true
	case s.state != open || s.killed.Load():
	case s.queued:
		s.again = true
		s.swept = s.swept && swept
	default:
		s.queued, s.swept, s.noticed = true, swept && s.failures == 0, now()
		s.registry.queue.put(s)
	}
}

// judge judges the session again, and ends the stream if that has ended. A hint that
// came meanwhile counts.
func (s *Stream) judge() {
	for again := true; again; {
		s.mu.Lock()
		if s.state != open || s.killed.Load() {
			s.mu.Unlock()
			return
		}
		s.again = false
		swept, session := s.swept, s.session
		s.mu.Unlock()
		why, known := session.Judge(swept)
		stale := why != nil
		if stale && s.waitTurn() { // what was found may have changed meanwhile
			why, known = session.Judge(swept)
		}
		s.mu.Lock()
		s.count(known)
		killed := (why != nil || !s.again) && s.decide(why)
		if again = s.again && !killed; !again {
			s.queued, s.swept = false, false
		}
		kind, ended, age, left := s.kind, s.ended, s.killedAt-s.began, s.left
		s.mu.Unlock()
		if killed {
			session.Report(kind.String(), ended, age)
		}
		if stale {
			s.registry.queue.endTurn(left)
		}
	}
}

// count counts judgements without a result. The caller holds s.mu.
func (s *Stream) count(known bool) {
	if s.failures = min(s.failures+1, maxFailures); known {
		s.failures = 0
	}
}

// retry returns how long after a judgement the next one is due without a hint: soon if it
// had no result, because the hint that led to it may not come again. The caller holds
// s.mu.
func (s *Stream) retry() time.Duration {
	if s.failures == 0 {
		return sweepAfter
	}
	return min(sweepEvery<<(s.failures-1), sweepAfter)
}

// waitTurn waits until the stream may end, and reports whether it was hinted since it was
// judged.
func (s *Stream) waitTurn() (hinted bool) {
	s.registry.queue.beginTurn()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.again
}

// beginTurn waits until one more stream may end.
func (q *queue) beginTurn() {
	q.ending <- struct{}{}
	q.mu.Lock()
	waiting := len(q.waiting)
	q.mu.Unlock()
	q.pace.SetLimit(max(endRate, rate.Limit(float64(waiting)/endWithin.Seconds())))
	time.Sleep(q.pace.Reserve().Delay())
}

// endTurn lets the next stream end, once one has left, or takes too long.
func (q *queue) endTurn(left <-chan struct{}) {
	if left != nil {
		timer := time.NewTimer(maxTurn)
		defer timer.Stop()
		select {
		case <-left:
		case <-timer.C:
		}
	}
	<-q.ending
}

// decide decides what becomes of the stream, and reports whether it has ended it. The
// caller holds s.mu.
func (s *Stream) decide(why *Ended) (killed bool) {
	now := now()
	s.judged, s.doomed = now, false
	if why == nil && s.expired(now) {
		why = new(Ended)
		why.Reason, why.Subject, why.Another = Expired, s.entry.Subject, true
	}
	if why == nil || s.state != open {
		return false
	}
	switch at, certain := s.due(); {
	case why.Another && !s.kind.lasts(): // it may be of the session that is live
		s.doomed = !s.sent
	case !certain:
		s.doomed = true
	case at > now:
		time.AfterFunc(at-now, func() { s.hint(false) })
	default:
		s.kill(why)
		return true
	}
	return false
}

// due returns when the stream is to be ended whose session has; false if that can't
// be told before its header is sent. What changes something gets its answer, once it
// has arrived: it may be what has ended the session. The caller holds s.mu.
func (s *Stream) due() (at instant, certain bool) {
	switch arrived := s.arrived.Load(); {
	case s.kind.upgraded():
		return s.began, true
	case s.sent && s.writes && arrived:
		return s.sentAt + grace, true
	case s.kind == events:
		return s.began, true
	case s.sent:
		return s.began + grace, true
	case !s.answers || s.writes && arrived:
		return 0, false
	}
	return s.began + grace, true
}

// expired reports whether the token has expired of what goes on for ever by itself.
// Its client connects again, with the token that it has by then. The caller holds
// s.mu.
func (s *Stream) expired(now instant) bool {
	return s.kind.lasts() && s.expires != 0 && now > s.expires
}

// keepSweeping sweeps while there are streams.
func (g *Registry) keepSweeping() {
	if !g.sweeps.Load() && g.sweeps.CompareAndSwap(false, true) {
		time.AfterFunc(sweepEvery, g.sweep)
	}
}

// sweep has some streams judged again that were not judged for long.
func (g *Registry) sweep() {
	g.sweeps.Store(false) // first: a stream that comes from now on starts it again
	now := now()
	streams := 0
	var all []candidate
	for i := range g.buckets {
		b := &g.buckets[i]
		b.mu.Lock()
		for e := b.first; e != nil; e = e.next {
			streams++
			if s := e.stream; e == &s.entry {
				if judged, is := s.overdue(now); is {
					all = append(all, candidate{s, judged})
				}
			}
		}
		b.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.judged, b.judged) })
	for _, c := range all[:min(len(all), minSweep+streams/sweepShare)] {
		c.stream.hint(true)
	}
	if streams > 0 {
		g.keepSweeping()
	}
}

// candidate is a stream that is to be judged again.
type candidate struct {
	stream *Stream
	judged instant
}

// overdue reports whether the stream is to be judged again, and when it was last.
func (s *Stream) overdue(now instant) (judged instant, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.judged, s.state == open && !s.queued && (s.expired(now) || now-s.judged > s.retry())
}
