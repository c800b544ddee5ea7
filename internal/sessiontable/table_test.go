package sessiontable

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

// rows is a directory of rows in memory.
type rows struct {
	mu    sync.Mutex
	rows  map[string]directories.Account
	away  error
	asked int
}

func (r *rows) Lookup(_ context.Context, queries []directories.Query) ([]directories.Account, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.away != nil {
		return nil, r.away
	}
	var all []directories.Account
	for _, q := range queries {
		all = append(all, r.rows[string(q.Subject)])
	}
	return all, nil
}

func (*rows) String() string { return "memory" }

func (r *rows) set(rows map[string]directories.Account, away error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows, r.away = rows, away
}

func TestASessionEndsWithItsRow(t *testing.T) {
	t.Parallel()
	there := map[string]directories.Account{"one": {Exists: true}}
	away := errors.New("there is no such table")
	type step struct {
		rows  map[string]directories.Account
		away  error
		after time.Duration // since the first step
		ended bool
	}
	for name, steps := range map[string][]step{
		"there":                              {{rows: there}, {rows: there, after: time.Hour}},
		"gone, and never seen":               {{}, {after: time.Hour}},
		"gone":                               {{rows: there}, {after: time.Hour, ended: true}},
		"ended":                              {{rows: there}, {rows: map[string]directories.Account{"one": {Exists: true, Disabled: true}}, after: time.Hour, ended: true}},
		"ended before it was seen":           {{rows: map[string]directories.Account{"one": {Exists: true, Disabled: true}}}},
		"on a replica that lags":             {{rows: there}, {rows: map[string]directories.Account{"one": {Replica: true}}, after: time.Hour}},
		"not to be found out":                {{rows: there}, {away: away, after: time.Hour}},
		"gone, soon after an error":          {{rows: there}, {away: away, after: time.Hour}, {after: time.Hour + pause - 1}},
		"gone, a while after an error":       {{rows: there}, {away: away, after: time.Hour}, {after: time.Hour + pause, ended: true}},
		"gone for good, and another is seen": {{rows: there}, {after: time.Hour, ended: true}, {rows: there, after: 2 * time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory := new(rows)
			table := Open(directory, accounts.Config{Timeout: 30 * time.Second, TTL: time.Nanosecond}, true)
			t.Cleanup(func() {
				if err := table.Close(); err != nil {
					t.Error(err)
				}
			})
			began := time.Now()
			for i, s := range steps {
				directory.set(s.rows, s.away)
				if ended := table.Ended(t.Context(), []byte("one"), began.Add(s.after), false); ended != s.ended {
					t.Errorf("step %d: ended %t", i, ended)
				}
			}
		})
	}
}

func TestATableThatDoesNotAnswerIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		away error
		most int
	}{{errors.New("there is no such table"), 2}, {&directories.Error{Class: directories.Slow, Text: "no answer in time"}, 10}} {
		directory := &rows{away: c.away}
		table := Open(directory, accounts.Config{Timeout: 30 * time.Second}, true)
		t.Cleanup(func() { _ = table.Close() })
		now := time.Now()
		for range 100 {
			table.Ended(t.Context(), []byte("one"), now, false)
		}
		directory.mu.Lock()
		if directory.asked > c.most {
			t.Errorf("%v: asked %d times", c.away, directory.asked)
		}
		directory.mu.Unlock()
	}
}

// TestASessionThatProvesNothingHidesNoOther is about one whose row is missing where that
// proves nothing.
func TestASessionThatProvesNothingHidesNoOther(t *testing.T) {
	t.Parallel()
	directory := &rows{away: &directories.Error{Class: directories.Unproven, Text: "the role may not see all rows"}}
	table := Open(directory, accounts.Config{Timeout: 30 * time.Second}, true)
	t.Cleanup(func() { _ = table.Close() })
	now := time.Now()
	table.Ended(t.Context(), []byte("another"), now, false)
	directory.set(map[string]directories.Account{"one": {Exists: true, Matched: [][]byte{[]byte("ada")}}}, nil)
	if user, _ := table.Owner(t.Context(), []byte("one"), now); string(user) != "ada" {
		t.Errorf("the session of %q", user)
	}
}

// TestAClientThatHangsUpHidesNothing is about somebody who wants the table to be left
// alone.
func TestAClientThatHangsUpHidesNothing(t *testing.T) {
	t.Parallel()
	directory := &rows{rows: map[string]directories.Account{"one": {Exists: true}}}
	table := Open(directory, accounts.Config{Timeout: 30 * time.Second, TTL: time.Nanosecond}, true)
	t.Cleanup(func() { _ = table.Close() })
	now := time.Now()
	table.Ended(t.Context(), []byte("one"), now, false)
	directory.set(nil, nil)
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	table.Ended(gone, []byte("another"), now, false)
	if !table.Ended(t.Context(), []byte("one"), now.Add(time.Second), false) {
		t.Error("a session whose row is gone goes on")
	}
}

// TestOneSlowAnswerHidesNothing has somebody sign out elsewhere just after the database was
// too busy to answer in time.
func TestOneSlowAnswerHidesNothing(t *testing.T) {
	t.Parallel()
	for _, class := range []directories.Class{directories.Slow, directories.Busy} {
		directory := &rows{rows: map[string]directories.Account{"one": {Exists: true}}}
		table := Open(directory, accounts.Config{Timeout: 30 * time.Second, TTL: time.Nanosecond}, true)
		t.Cleanup(func() { _ = table.Close() })
		now := time.Now()
		table.Ended(t.Context(), []byte("one"), now, false)
		directory.set(nil, &directories.Error{Class: class, Text: "no answer in time"})
		table.Ended(t.Context(), []byte("one"), now.Add(time.Hour), false)
		directory.set(nil, nil)
		if !table.Ended(t.Context(), []byte("one"), now.Add(time.Hour+time.Second), false) {
			t.Errorf("%s: a session whose row is gone goes on", class)
		}
	}
}

func TestWhoseASessionIs(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		row  directories.Account
		away error
		user string
	}{
		"somebody's":       {directories.Account{Exists: true, CreatedAt: made, Matched: [][]byte{[]byte("ada")}}, nil, "ada"},
		"ended":            {directories.Account{Exists: true, Disabled: true, Matched: [][]byte{[]byte("ada")}}, nil, ""},
		"gone":             {directories.Account{}, nil, ""},
		"nobody's":         {directories.Account{Exists: true, Matched: [][]byte{nil}}, nil, ""},
		"of another shape": {directories.Account{Exists: true}, nil, ""},
		"not to be found":  {directories.Account{}, errors.New("there is no such table"), ""},
	} {
		directory := &rows{rows: map[string]directories.Account{"one": c.row}, away: c.away}
		table := Open(directory, accounts.Config{Timeout: 30 * time.Second}, true)
		user, at := table.Owner(t.Context(), []byte("one"), time.Now())
		if string(user) != c.user || c.user != "" && !at.Equal(made) {
			t.Errorf("%s: %q, made at %s", name, user, at)
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestARowThatMayBeEvictedEndsNothing(t *testing.T) {
	t.Parallel()
	directory := &rows{rows: map[string]directories.Account{"one": {Exists: true}}}
	table := Open(directory, accounts.Config{Timeout: 30 * time.Second, TTL: time.Nanosecond}, false)
	t.Cleanup(func() { _ = table.Close() })
	now := time.Now()
	for i := range 2 {
		if table.Ended(t.Context(), []byte("one"), now.Add(time.Duration(i)*time.Minute), false) {
			t.Errorf("step %d: ended", i)
		}
		directory.set(nil, nil)
	}
}
