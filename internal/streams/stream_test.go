package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// judged is a session of which the test says what it is.
type judged struct {
	stale    atomic.Bool
	unknown  atomic.Bool  // its state
	swept    atomic.Int32 // how often it was judged without a hint
	another  bool
	found    func() // is called once it is known
	judged   atomic.Int32
	reported atomic.Int32
	reason   atomic.Value
}

func (j *judged) Judge(swept bool) (*Ended, bool) {
	j.judged.Add(1)
	if swept {
		j.swept.Add(1)
	}
	if j.unknown.Load() || !j.stale.Load() {
		return nil, !j.unknown.Load()
	}
	ended := &Ended{Check: verdict.Check{Judgement: verdict.Judgement{Verdict: verdict.Stale, Reason: verdict.UserNotFound}}, Another: j.another}
	if j.found != nil {
		j.found()
	}
	return ended, true
}

func (*judged) Revoked(*revocation.List) bool { return true }

func (j *judged) Report(_ string, why *Ended, _ time.Duration) {
	j.reported.Add(1)
	j.reason.Store(why.Reason)
}

// names returns those of users.
func names(subjects ...string) (all []Name) {
	for _, subject := range subjects {
		all = append(all, Name{"users", []byte(subject)})
	}
	return all
}

// begin begins a stream of "user".
func begin(g *Registry, j *judged, r *http.Request, o Options) (*Stream, *http.Request) {
	s := new(Stream)
	s.Enter(g, names("user"))
	o.Session, o.Writer, o.Request, o.Began, o.Answers = j, httptest.NewRecorder(), r, time.Now(), true
	_, r = s.Open(o)
	return s, r
}

func get() *http.Request { return httptest.NewRequest(http.MethodGet, "/", http.NoBody) }

// subjects returns the accounts that have streams, in order.
func subjects(g *Registry, directory string) (listed []string) {
	for subject := range g.Subjects(directory) {
		listed = append(listed, string(subject))
	}
	slices.Sort(listed)
	return listed
}

func isEnded(r *http.Request) bool { return r.Context().Err() != nil }

var eventStream = http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}}

// TestWhenWhatIsUnderWayEnds hints once the session has ended, and tells when the
// request is canceled.
func TestWhenWhatIsUnderWayEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method string
		body   string // "", "arrives" or "has arrived"
		status int    // of a response whose header is sent, 0 for none yet
		header http.Header
		age    time.Duration // when the session ends
		want   time.Duration // until it is ended, -1 for not at all
	}{
		"an event stream, at once":                   {"GET", "", 200, eventStream, 0, 0},
		"a response, after its first second":         {"GET", "", 200, nil, 300 * time.Millisecond, 700 * time.Millisecond},
		"a response that goes on, at once":           {"GET", "", 200, nil, time.Minute, 0},
		"a connection that is upgraded, at once":     {"GET", "", 101, nil, 0, 0},
		"a long poll, at once":                       {"GET", "", 0, nil, time.Minute, 0},
		"a page that is being made":                  {"GET", "", 0, nil, 0, time.Second},
		"an upload, at once":                         {"POST", "arrives", 0, nil, time.Minute, 0},
		"a write that has arrived, not":              {"POST", "has arrived", 0, nil, time.Minute, -1},
		"a write without a body, not":                {"DELETE", "", 0, nil, time.Minute, -1},
		"the answer to a write, after a second":      {"POST", "has arrived", 200, nil, 0, time.Second},
		"events in answer to a write, at last":       {"POST", "has arrived", 200, eventStream, 400 * time.Millisecond, 600 * time.Millisecond},
		"a response while the request still arrives": {"POST", "arrives", 200, nil, time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g, j := NewRegistry(), new(judged)
				r := httptest.NewRequest(c.method, "/", strings.NewReader(c.body))
				if c.body == "" {
					r = httptest.NewRequest(c.method, "/", http.NoBody)
				}
				s, r := begin(g, j, r, Options{})
				defer s.Leave()
				if c.body == "has arrived" {
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						t.Fatal(err)
					}
				}
				if c.status != 0 && !s.Send(c.status, c.header) {
					t.Fatal("it was ended")
				}
				time.Sleep(c.age)
				j.stale.Store(true)
				ended := time.Now()
				g.Changed("users", []byte("user"))
				synctest.Wait()
				if c.want < 0 {
					time.Sleep(2 * time.Second)
					if isEnded(r) {
						t.Fatal("it has ended")
					}
					if !s.Send(http.StatusOK, nil) {
						t.Error("it gets no answer")
					}
					ended, c.want = time.Now(), grace
				}
				<-r.Context().Done()
				if took := time.Since(ended); took != c.want {
					t.Errorf("after %s, want %s", took, c.want)
				}
				synctest.Wait()
				if j.reported.Load() != 1 {
					t.Errorf("reported %d times", j.reported.Load())
				}
			})
		})
	}
}

// TestVeryManyStreamsEndInTurns so that requests get theirs, although no client reads.
func TestVeryManyStreamsEndInTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const open = 4000
		g, j := NewRegistry(), new(judged)
		all, requests := make([]*Stream, open), make([]*http.Request, open)
		for i := range all {
			all[i], requests[i] = begin(g, j, get(), Options{})
			all[i].Send(http.StatusOK, eventStream)
		}
		j.stale.Store(true)
		began := time.Now()
		g.Changed("users", []byte("user"))
		synctest.Wait()
		ended := func() (n int) {
			for _, r := range requests {
				if isEnded(r) {
					n++
				}
			}
			return n
		}
		if n := ended(); n != endBurst {
			t.Errorf("%d end at once, want %d", n, endBurst)
		}
		time.Sleep(maxTurn - time.Millisecond)
		if n := ended(); n != maxEnding {
			t.Errorf("%d have ended before one has left, want %d", n, maxEnding)
		}
		for i, r := range requests {
			if isEnded(r) {
				all[i].Leave()
				all[i] = nil
				break
			}
		}
		synctest.Wait()
		if n := ended(); n != maxEnding+1 {
			t.Errorf("%d have ended once one has left, want %d", n, maxEnding+1)
		}
		for _, r := range requests {
			<-r.Context().Done()
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the last of %d was ended after %s", open, took)
		}
		for _, s := range all {
			if s != nil {
				s.Leave()
			}
		}
	})
}

// TestAStreamThatWaitsForItsTurnIsJudgedAgain if its session is live by then.
func TestAStreamThatWaitsForItsTurnIsJudgedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, j := NewRegistry(), new(judged)
		s, r := begin(g, j, get(), Options{})
		defer s.Leave()
		s.Send(http.StatusOK, eventStream)
		for range maxEnding {
			g.queue.ending <- struct{}{}
		}
		j.stale.Store(true)
		g.Changed("users", []byte("user"))
		synctest.Wait()
		j.stale.Store(false)
		g.Changed("users", []byte("user"))
		for range maxEnding {
			<-g.queue.ending
		}
		synctest.Wait()
		if isEnded(r) {
			t.Error("the stream of a live session was ended")
		}
		j.stale.Store(true)
		g.Changed("users", []byte("user"))
		<-r.Context().Done()
	})
}

// TestAHintThatLedToNothingHolds until something is known: without a hint, the stream of
// a former configuration is not judged at all.
func TestAHintThatLedToNothingHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, j := NewRegistry(), new(judged)
		s, _ := begin(g, j, get(), Options{})
		defer s.Leave()
		s.Send(http.StatusOK, eventStream)
		j.unknown.Store(true)
		g.Changed("users", []byte("user"))
		time.Sleep(5 * time.Minute)
		if judged, swept := j.judged.Load(), j.swept.Load(); judged < 5 || swept != 0 {
			t.Errorf("judged %d times, as without a hint %d times", judged, swept)
		}
		j.unknown.Store(false)
		time.Sleep(5 * time.Minute)
		if j.swept.Load() < 5 {
			t.Error("the hint holds although its result is known")
		}
	})
}

// TestAStreamWhoseStateIsUnknownIsJudgedAgainSoon because what gave the hint may not come
// again.
func TestAStreamWhoseStateIsUnknownIsJudgedAgainSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewRegistry()
		var sessions [10 * minSweep]judged
		for i := range sessions {
			j := &sessions[i]
			s, _ := begin(g, j, get(), Options{})
			defer s.Leave()
			s.Send(http.StatusOK, eventStream)
			j.stale.Store(true)
			j.unknown.Store(true)
		}
		g.Changed("users", []byte("user"))
		time.Sleep(time.Minute)
		for i := range sessions {
			if n := sessions[i].judged.Load(); n < 4 || n > 8 {
				t.Fatalf("judged %d times in a minute", n)
			}
			sessions[i].unknown.Store(false)
		}
		time.Sleep(time.Minute)
		for i := range sessions {
			if sessions[i].reported.Load() == 0 {
				t.Fatal("it goes on")
			}
		}
	})
}

// TestAHintCountsWhileAnotherSessionIsFound that the download may belong to: that one
// ends too meanwhile.
func TestAHintCountsWhileAnotherSessionIsFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, j := NewRegistry(), &judged{another: true}
		s, r := begin(g, j, get(), Options{})
		defer s.Leave()
		s.Send(http.StatusOK, nil)
		time.Sleep(2 * grace)
		j.found = func() {
			if j.another {
				j.another = j.judged.Load() < 2 // the second time is when it may end
				g.Changed("users", []byte("user"))
			}
		}
		j.stale.Store(true)
		g.Changed("users", []byte("user"))
		synctest.Wait()
		if !isEnded(r) {
			t.Error("it goes on")
		}
	})
}

// TestAStreamWithoutAHintIsJudgedTwiceAMinute is about changes that are not noticed.
func TestAStreamWithoutAHintIsJudgedTwiceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, j := NewRegistry(), new(judged)
		s, r := begin(g, j, get(), Options{})
		s.Send(http.StatusOK, eventStream)
		time.Sleep(10 * time.Minute)
		if n := j.judged.Load(); n < 18 || n > 20 {
			t.Errorf("judged %d times in ten minutes", n)
		}
		j.stale.Store(true)
		time.Sleep(sweepAfter + 2*sweepEvery)
		if !isEnded(r) {
			t.Error("it has not ended")
		}
		s.Leave()
		time.Sleep(2 * sweepEvery)
		if g.sweeps.Load() {
			t.Error("it is swept while there are no streams")
		}
	})
}

// TestWhatLastsEndsWhenItsTokenExpires and nothing else.
func TestWhatLastsEndsWhenItsTokenExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, events, response := NewRegistry(), new(judged), new(judged)
		options := Options{Expires: time.Now().Add(time.Minute)}
		a, ra := begin(g, events, get(), options)
		defer a.Leave()
		b, rb := begin(g, response, get(), options)
		defer b.Leave()
		a.Send(http.StatusOK, eventStream)
		b.Send(http.StatusOK, nil)
		time.Sleep(59 * time.Second)
		if isEnded(ra) {
			t.Error("before it expires")
		}
		time.Sleep(3 * time.Second)
		if !isEnded(ra) || events.reason.Load() != Expired {
			t.Errorf("ended: %t, %v", isEnded(ra), events.reason.Load())
		}
		time.Sleep(time.Hour)
		if isEnded(rb) {
			t.Error("a download has ended")
		}
	})
}

// TestWhatIsUnderWayOfTwoSessionsIsCompleted when one of them ends, which anybody on a
// sibling domain can have added. What lasts ends: its client connects again.
func TestWhatIsUnderWayOfTwoSessionsIsCompleted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, body string
		header       http.Header // of a response, once the session has ended; nil for none
		want         bool
	}{
		"a long poll":     {"GET", "", nil, false},
		"an upload":       {"POST", "arrives", nil, false},
		"a download":      {"GET", "", http.Header{}, false},
		"an event stream": {"GET", "", eventStream, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g, j := NewRegistry(), &judged{another: true}
				s, r := begin(g, j, httptest.NewRequest(c.method, "/", strings.NewReader(c.body)), Options{})
				defer s.Leave()
				time.Sleep(time.Minute)
				j.stale.Store(true)
				g.Changed("users", []byte("user"))
				synctest.Wait()
				if isEnded(r) {
					t.Fatal("it has ended before there is a response")
				}
				if c.header != nil && !s.Send(http.StatusOK, c.header) {
					t.Error("it gets no answer")
				}
				time.Sleep(grace)
				if synctest.Wait(); isEnded(r) != c.want {
					t.Errorf("ended: %t", isEnded(r))
				}
			})
		})
	}
}

// TestAHintWhileASessionIsJudgedCounts in the first judgement and in later ones.
func TestAHintWhileASessionIsJudgedCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, j := NewRegistry(), new(judged)
		s := new(Stream)
		s.Enter(g, names("user", "another"))
		g.Changed("users", []byte("another")) // after the lookup has read that it is there
		j.stale.Store(true)
		_, r := s.Open(Options{Session: j, Writer: httptest.NewRecorder(), Request: get(), Began: time.Now(), Answers: true})
		defer s.Leave()
		s.Send(http.StatusOK, eventStream)
		synctest.Wait()
		if !isEnded(r) {
			t.Error("it goes on")
		}
	})
}

// TestARenamedStreamIsKnownByItsNewNames and judged again.
func TestARenamedStreamIsKnownByItsNewNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, j := NewRegistry(), new(judged)
		s := new(Stream)
		s.Enter(g, names("+1"))
		s.Rename(names("1"))
		_, r := s.Open(Options{Session: j, Writer: httptest.NewRecorder(), Request: get(), Began: time.Now()})
		s.Send(http.StatusOK, eventStream)
		synctest.Wait()
		if j.judged.Load() != 1 {
			t.Errorf("judged %d times", j.judged.Load())
		}
		j.stale.Store(true)
		for _, other := range [][2]string{{"users", "+1"}, {"users", "2"}, {"others", "1"}} {
			g.Changed(other[0], []byte(other[1]))
		}
		if synctest.Wait(); isEnded(r) {
			t.Error("it was ended by what does not concern it")
		}
		if g.Changed("users", nil); g.Count()["users"] != 1 || len(subjects(g, "users")) != 1 {
			t.Error("it is not known once")
		}
		if synctest.Wait(); !isEnded(r) {
			t.Error("it goes on")
		}
		s.Leave()
		if len(g.Count()) != 0 || len(subjects(g, "users")) != 0 {
			t.Error("it is known after its end")
		}
	})
}

// TestAStreamIsKnownInSeveralDirectories whose subjects may be equal: the ids of users and
// of sessions can be numbers.
func TestAStreamIsKnownInSeveralDirectories(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewRegistry()
		all := [][]Name{
			{{"users", []byte("7")}, {"rows", []byte("7")}},
			{{"users", []byte("7")}, {"rows", []byte("8")}},
			{{"users", []byte("8")}, {"rows", []byte("9")}, {"users", []byte("7")}},
		}
		judges := make([]*judged, len(all))
		streams := make([]*Stream, len(all))
		for i, names := range all {
			judges[i], streams[i] = new(judged), new(Stream)
			streams[i].Enter(g, names)
			streams[i].Rename(names)
			streams[i].Open(Options{Session: judges[i], Writer: httptest.NewRecorder(), Request: get(), Began: time.Now()})
		}
		for _, c := range []struct {
			directory, subject string // empty for all
			told               string
		}{
			{"users", "7", "111"},
			{"users", "8", "001"},
			{"users", "9", "000"},
			{"users", "", "111"},
			{"rows", "7", "100"},
			{"rows", "8", "010"},
			{"rows", "9", "001"},
			{"rows", "", "111"},
			{"others", "7", "000"},
		} {
			subject := []byte(c.subject)
			if c.subject == "" {
				subject = nil
			}
			g.Changed(c.directory, subject)
			synctest.Wait()
			told := ""
			for _, j := range judges {
				told += strconv.Itoa(int(min(j.judged.Swap(0), 1)))
			}
			if told != c.told {
				t.Errorf("%s %q: %s are told, want %s", c.directory, c.subject, told, c.told)
			}
		}
		for directory, want := range map[string]string{"users": "7 8", "rows": "7 8 9", "others": ""} {
			if got := strings.Join(slices.Compact(subjects(g, directory)), " "); got != want {
				t.Errorf("the subjects of %s: %s, want %s", directory, got, want)
			}
		}
		if counts := g.Count(); len(counts) != 1 || counts["users"] != len(all) {
			t.Errorf("counted %v", counts)
		}
		for _, s := range streams {
			s.Leave()
		}
		if n := len(subjects(g, "users")) + len(subjects(g, "rows")) + len(g.Count()); n != 0 {
			t.Errorf("%d are known after their end", n)
		}
	})
}

// TestAnInterruptedUploadLooksLikeAClientThatHasGone because a proxy takes its upstream
// for broken otherwise.
func TestAnInterruptedUploadLooksLikeAClientThatHasGone(t *testing.T) {
	t.Parallel()
	g, j := NewRegistry(), new(judged)
	broken := errors.New("i/o timeout")
	s, r := begin(g, j, httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("x"), failing{broken})), Options{})
	defer s.Leave()
	if _, err := io.ReadAll(r.Body); !errors.Is(err, broken) {
		t.Errorf("before: %v", err)
	}
	s.mu.Lock()
	s.kill(new(Ended))
	s.mu.Unlock()
	if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("after: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestAStreamNeedsLittleMemory beyond what its request needs anyway.
func TestAStreamNeedsLittleMemory(t *testing.T) {
	const count, limit = 2000, 1 << 10
	g, j := NewRegistry(), new(judged)
	requests := make([]*http.Request, count)
	for i := range requests {
		requests[i] = get()
	}
	servers := slices.Clone(requests)
	subjects := make([][]Name, count)
	for i := range subjects {
		subjects[i] = names(fmt.Sprint("user ", i))
	}
	w := httptest.NewRecorder()
	all := make([]*Stream, count)
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	for i := range all {
		all[i] = new(Stream)
		all[i].Enter(g, subjects[i])
		_, requests[i] = all[i].Open(Options{Session: j, Writer: w, Request: requests[i], Began: time.Now()})
		_ = requests[i].Context().Done()
	}
	each := (used() - before) / count
	t.Logf("%d bytes", each)
	if each > limit {
		t.Errorf("%d bytes each, want %d at most", each, limit)
	}
	for _, s := range all {
		s.Leave()
	}
	runtime.KeepAlive(servers)
}
