package accounts

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// open streams, and what is told of them.
type underWay struct {
	subjects [][]byte

	mu   sync.Mutex
	told []string // "" for all
}

func (u *underWay) Subjects(string) iter.Seq[[]byte] { return slices.Values(u.subjects) }

func (u *underWay) Changed(_ string, subject []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.told = append(u.told, string(subject))
}

// take returns what was told since the last call.
func (u *underWay) take() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	told := strings.Join(u.told, " ")
	u.told = nil
	return told
}

// slowly is a directory whose lookups take a while.
type slowly struct {
	gated
	took func(subjects int) time.Duration
	each func(subject string) // that is looked up
}

func (s *slowly) Watch(ctx context.Context, changed func(...string)) (directories.Watch, error) {
	opened, err := s.gated.Watch(ctx, changed)
	return slowGate{opened.(gate), s}, err
}

type slowGate struct {
	gate
	s *slowly
}

func (g slowGate) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	time.Sleep(g.s.took(len(queries)))
	for _, q := range queries {
		g.s.each(string(q.Subject))
	}
	return g.gate.Lookup(ctx, queries)
}

// TestAccountsInUseNeverWaitForThoseWithStreams commits all the time, while 10,000
// accounts have streams.
func TestAccountsInUseNeverWaitForThoseWithStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const open, perStatement = 10_000, 50 * time.Millisecond
		users := map[string]directories.Account{"busy": {Exists: true}}
		streams := new(underWay)
		for i := range open {
			subject := fmt.Sprint("u", i)
			users[subject] = directories.Account{Exists: true}
			streams.subjects = append(streams.subjects, []byte(subject))
		}
		var inUse, others atomic.Int64
		d := &slowly{gated: gated{value: "0", shelf: shelf{users: users}}}
		d.took = func(n int) time.Duration {
			if n > maxRecheck {
				t.Errorf("%d subjects at a time", n)
			}
			return time.Duration(n) * perStatement / maxRecheck
		}
		d.each = func(subject string) {
			if subject == "busy" {
				inUse.Add(1)
			} else {
				others.Add(1)
			}
		}
		e := openShelf(t, d, Config{Streams: streams, TTL: time.Hour})
		if got := said(e, "busy"); got != "there" {
			t.Fatal(got)
		}
		time.Sleep(time.Minute)
		inUse.Store(0)
		others.Store(0)
		const polls = 60
		for i := range polls {
			d.set(func() { d.value = fmt.Sprint(i + 1) })
			said(e, "busy")
			time.Sleep(500 * time.Millisecond)
		}
		if n := inUse.Load(); n < polls*9/10 {
			t.Errorf("the account in use was looked up %d times in %d polls", n, polls)
		}
		took := time.Duration(others.Load()) * perStatement / maxRecheck
		share := polls * 500 * time.Millisecond / maxStreamDuty
		if most := share + maxBurst + perStatement; took > most || took < share/2 {
			t.Errorf("those with streams took %s, want %s at most", took, most)
		}
	})
}

// TestStreamsAreToldOfWhatHasChanged and of nothing else.
func TestStreamsAreToldOfWhatHasChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		streams := &underWay{subjects: [][]byte{[]byte("ada"), []byte("bob"), []byte("eve")}}
		here := directories.Account{Exists: true, CreatedAt: now, Matched: [][]byte{[]byte("a@example.com"), nil}}
		g := &gated{value: "0", shelf: shelf{users: map[string]directories.Account{"ada": here, "bob": here}}}
		e := openShelf(t, g, Config{Streams: streams, TTL: time.Hour})
		for _, subject := range []string{"ada", "bob", "eve"} {
			said(e, subject)
		}
		time.Sleep(time.Second)
		streams.take()
		for i, c := range []struct {
			name   string
			change func(a *directories.Account)
			told   string
		}{
			{"a commit of others", func(*directories.Account) {}, ""},
			{"disabled", func(a *directories.Account) { a.Disabled = true }, "ada"},
			{"enabled", func(a *directories.Account) { a.Disabled = false }, "ada"},
			{"a time before which no session is valid", func(a *directories.Account) { a.ValidAfter = now }, "ada"},
			{"another account with the same id", func(a *directories.Account) { a.CreatedAt = now.Add(time.Hour) }, "ada"},
			{"another e-mail", func(a *directories.Account) { a.Matched = [][]byte{[]byte("b@example.com"), nil} }, "ada"},
			{"a role", func(a *directories.Account) { a.Matched = [][]byte{[]byte("b@example.com"), {}} }, "ada"},
			{"a second account", func(a *directories.Account) { a.Others = []directories.Account{here} }, "ada"},
			{"deleted", func(a *directories.Account) { *a = directories.Account{} }, "ada"},
		} {
			g.set(func() {
				a := g.users["ada"]
				c.change(&a)
				g.users["ada"] = a
				g.value = fmt.Sprint("change ", i)
			})
			time.Sleep(time.Second)
			told := strings.Fields(streams.take())
			only := ""
			for _, subject := range told {
				if subject != "eve" { // who is not there, and may have to be asked for
					only = subject
				}
			}
			if only != c.told {
				t.Errorf("%s: told of %q, want %q", c.name, told, c.told)
			}
		}
		e.Flush()
		e.changed("bob")
		e.changed()
		if told := streams.take(); told != " bob " {
			t.Errorf("told of %q", told)
		}
	})
}

// TestStreamsAreToldOfWhatAnEngineLearnsFirst although another one may have told of it:
// that one, in another configuration, may not have known it when they were judged.
func TestStreamsAreToldOfWhatAnEngineLearnsFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		streams := new(underWay)
		g := &gated{value: "0", shelf: shelf{users: map[string]directories.Account{
			"ada": {Exists: true}, "large": {Exists: true, Matched: [][]byte{make([]byte, 1<<20)}},
		}}}
		e := openShelf(t, g, Config{Streams: streams, TTL: time.Hour})
		time.Sleep(time.Second)
		for _, c := range []struct{ subject, told string }{
			{"ada", "ada"},
			{"ada", ""},
			{"eve", "eve"}, // is not there
			{"eve", ""},
			{"large", ""}, // for the cache: it would be learned again and again
		} {
			said(e, c.subject)
			if told := streams.take(); told != c.told {
				t.Errorf("%s: told of %q, want %q", c.subject, told, c.told)
			}
		}
		_ = e.Close() // the test's cleanup closes it once more
		if streams.mu.Lock(); !slices.Equal(streams.told, []string{""}) {
			t.Errorf("told %q of the end, want all", streams.told)
		}
		streams.mu.Unlock()
	})
}

// TestNothingIsKeptOfAStreamThatHasEnded although its subject, which was looked up, is a
// part of its request.
func TestNothingIsKeptOfAStreamThatHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type request struct{ header [64 << 10]byte }
		r := new(request)
		copy(r.header[:], "ada")
		kept, streams := weak.Make(r), &underWay{subjects: [][]byte{r.header[:3]}}
		var lookups atomic.Int64
		d := &slowly{took: func(int) time.Duration { return 0 }, each: func(string) { lookups.Add(1) }}
		d.gated = gated{value: "0", shelf: shelf{users: map[string]directories.Account{"ada": {Exists: true}, "bob": {Exists: true}}}}
		e := openShelf(t, d, Config{Streams: streams, TTL: time.Hour})
		said(e, "bob")
		time.Sleep(time.Second)
		d.set(func() { d.value = "1" })
		if time.Sleep(time.Second); lookups.Load() == 0 || kept.Value() == nil {
			t.Fatal("it was not looked up while it was open")
		}
		synctest.Wait()
		streams.subjects = nil
		if runtime.GC(); kept.Value() != nil {
			t.Error("its request is kept")
		}
	})
}

// TestALookupForAStreamBringsNoAccountIntoUse because there may be many.
func TestALookupForAStreamBringsNoAccountIntoUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gated{value: "0", shelf: shelf{users: map[string]directories.Account{"ada": {Exists: true}}}}
		e := openShelf(t, g, Config{})
		time.Sleep(time.Second)
		for range 3 {
			query := Query{Query: directories.Query{Subject: []byte("ada")}, Now: e.now(), Aside: true}
			if _, err := e.Lookup(t.Context(), query, new(Account)); err != nil {
				t.Fatal(err)
			}
			if list := e.watch.recent.list(windowOf(e.instant(e.now()))); list.count != 0 {
				t.Errorf("%d in use", list.count)
			}
		}
	})
}

// spelling is a directory that learns how subjects are spelled.
type spelling struct {
	gated
	learned atomic.Bool
}

func (s *spelling) Normalize(subject []byte) []byte {
	if s.learned.Load() {
		return bytes.ToLower(subject)
	}
	return subject
}

// TestAStreamIsToldOfAsItIsKnown although it was opened while the directory was away, so
// that nobody knew how its subject is spelled.
func TestAStreamIsToldOfAsItIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		streams := &underWay{subjects: [][]byte{[]byte("ADA")}}
		d := &spelling{gated: gated{value: "0", shelf: shelf{users: map[string]directories.Account{"ADA": {Exists: true}}}}}
		e := openShelf(t, d, Config{Streams: streams, TTL: time.Hour})
		d.learned.Store(true)
		said(e, "bob")
		time.Sleep(time.Second)
		streams.take()
		d.set(func() { d.value, d.users = "1", nil })
		time.Sleep(time.Second)
		if told := streams.take(); !slices.Contains(strings.Fields(told), "ADA") {
			t.Errorf("told of %q", told)
		}
	})
}
