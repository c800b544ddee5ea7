package sessiontable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

// database is a directory of rows that shows its commits.
type database struct {
	rows
	commits int
	looked  []string // up on the connection of the watch
}

// commit commits some rows, or an error.
func (d *database) commit(rows map[string]directories.Account, away error) {
	d.set(rows, away)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.commits++
}

// watched returns what was looked up on the connection of the watch since the last call.
func (d *database) watched() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	looked := d.looked
	d.looked = nil
	return looked
}

func (d *database) Watch(context.Context, func(...string)) (directories.Watch, error) {
	return gate{d}, nil
}

type gate struct{ *database }

func (g gate) Read(context.Context) (directories.Reading, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return directories.Reading{Value: strconv.Itoa(g.commits)}, nil
}

func (g gate) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	g.mu.Lock()
	for _, q := range queries {
		g.looked = append(g.looked, string(q.Subject))
	}
	g.mu.Unlock()
	return g.database.Lookup(ctx, queries)
}

func (gate) Wait(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (gate) Close() error { return nil }

// open are streams of some sessions, and what they are told.
type open struct {
	ids []string

	mu   sync.Mutex
	told []string
}

func (o *open) Subjects(directory string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if directory != "sessions in memory" {
			return
		}
		for _, id := range o.ids {
			if !yield([]byte(id)) {
				return
			}
		}
	}
}

func (o *open) Changed(directory string, id []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = append(o.told, fmt.Sprintf("%s: %s", directory, id))
}

// take returns what was told since the last call, each once.
func (o *open) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	told := slices.Compact(o.told)
	o.told = nil
	return told
}

// poll is how often the watch asks by default.
const poll = 500 * time.Millisecond

func TestAStreamIsToldWhenTheRowOfItsSessionHasChanged(t *testing.T) {
	t.Parallel()
	here := directories.Account{Exists: true, Matched: [][]byte{[]byte("ada")}}
	other := map[string]directories.Account{"another": here}
	both := map[string]directories.Account{"one": here, "another": here}
	type step struct {
		rows map[string]directories.Account
		away error
		told string
	}
	noTable := errors.New("there is no such table")
	for name, c := range map[string]struct {
		config  accounts.Config
		evicted bool // rows may be
		before  map[string]directories.Account
		steps   []step
	}{
		"gone":                            {before: both, steps: []step{{rows: both}, {rows: other, told: "sessions in memory: one"}}},
		"ended":                           {before: both, steps: []step{{rows: map[string]directories.Account{"one": {Exists: true, Disabled: true}, "another": here}, told: "sessions in memory: one"}}},
		"never there":                     {before: other, steps: []step{{rows: other}, {rows: other}}},
		"the lookups fail":                {before: both, steps: []step{{away: noTable}, {away: noTable}, {rows: both}, {rows: other, told: "sessions in memory: one"}}},
		"gone while they fail":            {before: both, steps: []step{{away: noTable}, {rows: other, told: "sessions in memory: one"}}},
		"not watched":                     {config: accounts.Config{Poll: -1}, before: both, steps: []step{{rows: other}}},
		"gone, but may be so by accident": {evicted: true, before: both, steps: []step{{rows: other}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				streams := &open{ids: []string{"one", "another"}}
				c.config.Streams = streams
				d := new(database)
				d.commit(c.before, nil)
				table := Open(d, c.config, !c.evicted)
				defer table.Close()
				for _, id := range streams.ids {
					table.Ended(t.Context(), []byte(id), time.Now(), false)
				}
				time.Sleep(time.Minute)
				d.watched()
				for i, s := range c.steps {
					d.commit(s.rows, s.away)
					time.Sleep(2 * poll)
					if told := strings.Join(streams.take(), ", "); told != s.told {
						t.Errorf("step %d: told %q, want %q", i, told, s.told)
					}
				}
			})
		})
	}
}

// TestAStreamOfASessionThatTheAppLooksUpIsTold although nobody has asked whether that has
// ended.
func TestAStreamOfASessionThatTheAppLooksUpIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		streams := &open{ids: []string{"one"}}
		d := new(database)
		d.commit(map[string]directories.Account{"one": {Exists: true, Matched: [][]byte{[]byte("ada")}}}, nil)
		table := Open(d, accounts.Config{Streams: streams}, true)
		defer table.Close()
		if user, _ := table.Owner(t.Context(), []byte("one"), time.Now()); string(user) != "ada" {
			t.Fatalf("the session of %q", user)
		}
		time.Sleep(time.Minute)
		d.commit(nil, nil)
		time.Sleep(2 * poll)
		if told := strings.Join(streams.take(), ", "); told != "sessions in memory: one" {
			t.Errorf("told %q", told)
		}
		if !table.Ended(t.Context(), []byte("one"), time.Now(), false) {
			t.Error("it has not ended")
		}
	})
}

// TestAStreamThatIsJudgedBringsNoRowIntoUse because there may be many: the rows that requests
// ask for would wait for them.
func TestAStreamThatIsJudgedBringsNoRowIntoUse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		aside  bool
		looked int // up again after a commit
	}{"a request": {false, 1}, "a stream": {true, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := new(database)
				there := map[string]directories.Account{"one": {Exists: true}}
				d.commit(there, nil)
				table := Open(d, accounts.Config{}, true)
				defer table.Close()
				for range 5 {
					time.Sleep(poll)
					table.Ended(t.Context(), []byte("one"), time.Now(), c.aside)
				}
				d.commit(there, nil)
				time.Sleep(2 * poll)
				if looked := d.watched(); len(looked) != c.looked {
					t.Errorf("looked up: %q", looked)
				}
			})
		})
	}
}

// TestRowsThatWereNeverThereAreNotLookedUpAgain however much others write: the app may
// keep its sessions elsewhere, and have no such table.
func TestRowsThatWereNeverThereAreNotLookedUpAgain(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]error{"none of them": nil, "no table": errors.New("there is no such table")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				streams := new(open)
				for i := range 100 {
					streams.ids = append(streams.ids, strconv.Itoa(i))
				}
				d := new(database)
				d.commit(nil, away)
				table := Open(d, accounts.Config{Streams: streams}, true)
				defer table.Close()
				for _, id := range streams.ids {
					table.Ended(t.Context(), []byte(id), time.Now(), false)
				}
				time.Sleep(time.Minute)
				d.watched()
				for range 100 {
					d.commit(nil, away)
					time.Sleep(poll)
				}
				if looked, told := len(d.watched()), len(streams.take()); looked+told > 0 {
					t.Errorf("%d rows were looked up, and %d streams told", looked, told)
				}
			})
		})
	}
}

// TestATableThatIsGoneIsAskedOncePerPoll for all the streams of sessions that it had.
func TestATableThatIsGoneIsAskedOncePerPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		streams, there := new(open), make(map[string]directories.Account)
		for i := range 100 {
			id := strconv.Itoa(i)
			streams.ids, there[id] = append(streams.ids, id), directories.Account{Exists: true}
		}
		d := new(database)
		d.commit(there, nil)
		table := Open(d, accounts.Config{Streams: streams}, true)
		defer table.Close()
		for _, id := range streams.ids {
			table.Ended(t.Context(), []byte(id), time.Now(), false)
		}
		time.Sleep(time.Minute)
		d.watched()
		const polls = 100
		d.commit(nil, errors.New("there is no such table"))
		time.Sleep(polls * poll)
		if looked := len(d.watched()); looked == 0 || looked > (polls+1)*len(streams.ids) {
			t.Errorf("%d rows were looked up in %d polls", looked, polls)
		}
		if told := len(streams.take()); told > 0 {
			t.Errorf("%d streams were told", told)
		}
	})
}

// TestAStreamIsJudgedOnceItIsTold although somebody has asked in vain a moment before.
func TestAStreamIsJudgedOnceItIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		streams := &open{ids: []string{"one"}}
		d := new(database)
		d.commit(map[string]directories.Account{"one": {Exists: true}}, nil)
		table := Open(d, accounts.Config{Streams: streams}, true)
		defer table.Close()
		table.Ended(t.Context(), []byte("one"), time.Now(), true)
		time.Sleep(time.Minute)
		d.commit(nil, errors.New("there is no such table"))
		time.Sleep(2 * poll)
		table.Ended(t.Context(), []byte("another"), time.Now(), false)
		d.commit(nil, nil)
		time.Sleep(2 * poll)
		if told := streams.take(); len(told) == 0 || !table.Ended(t.Context(), []byte("one"), time.Now(), true) {
			t.Errorf("told %q, and it goes on", told)
		}
	})
}

// TestAsManySessionsEndAsRowsAreCached because one that is forgotten would not.
func TestAsManySessionsEndAsRowsAreCached(t *testing.T) {
	t.Parallel()
	const size = 50_000
	id := func(i int) []byte { return fmt.Appendf(nil, "%036d", i) }
	table := Open(new(rows), accounts.Config{Size: size}, true)
	t.Cleanup(func() { _ = table.Close() })
	now := time.Now()
	for i := range size {
		table.remember(id(i), now)
	}
	forgotten := 0
	for i := range size {
		if !table.remembers(id(i), now) {
			forgotten++
		}
	}
	if forgotten > size/1000 {
		t.Errorf("of %d sessions, %d are forgotten", size, forgotten)
	}
}
