package accounts

import (
	"cmp"
	"context"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

const (
	// Re-checks take a tenth of the time at most, over a while, those of accounts with
	// streams a fifth, and this long at a time.
	maxDuty       = 10
	maxStreamDuty = 5
	maxBurst      = time.Second
	// maxRecheck is how many accounts one lookup of the watch asks for. While it
	// is under way, no change is reported.
	maxRecheck = 1000
)

// duty is how long re-checks of one kind may take. One kind never waits for another.
type duty struct {
	part    time.Duration // one of so many parts of the time is used; 0 for maxDuty
	credit  time.Duration
	counted time.Time // when credit was
}

// earn adds to the time that re-checks may take.
func (d *duty) earn(now time.Time) {
	d.credit = min(d.credit+now.Sub(d.counted)/cmp.Or(d.part, maxDuty), maxBurst)
	d.counted = now
}

// spend runs a part of a re-check, and counts the time that it takes: that of the
// database, and that of this process.
func (d *duty) spend(work func() error) error {
	began := time.Now()
	err := work()
	d.credit -= time.Since(began)
	return err
}

// recheck looks the accounts in use up again that may have changed, for as long
// as it may.
func (w *watch) recheck(gate directories.Gate) error {
	w.earn(time.Now())
	for w.credit > 0 {
		if w.todo.count == 0 {
			if !w.moved {
				w.behind.Store(0)
				return nil
			}
			w.moved = false
			w.behind.Store(int64(w.movedAt))
			w.todo = w.recent.list(windowOf(w.e.instant(w.e.now())))
		}
		if err := w.spend(func() error { return w.recheckSome(gate, w.next()) }); err != nil {
			return err
		}
	}
	return nil
}

// next takes some subjects off the list whose accounts may have changed.
func (w *watch) next() []directories.Query {
	var queries []directories.Query
	now := w.e.now()
	var known Account
	for w.todo.count > 0 && len(queries) < maxRecheck {
		if subject := w.todo.next(); w.e.store.get(subject, now, &known) && !w.holds(&known) {
			queries = append(queries, directories.Query{Subject: subject})
		}
	}
	return queries
}

// recheckSome looks subjects of the list up.
func (w *watch) recheckSome(gate directories.Gate, queries []directories.Query) error {
	found, err := w.look(gate, queries)
	if err == nil && len(found) < len(queries) { // requests have to look their accounts up
		w.moved, w.todo = false, subjectList{}
		w.behind.Store(0)
		w.credit = min(w.credit, 0)
	}
	return err
}

// look looks subjects up, and keeps what it finds. One that is not found is looked up
// once more, and the absence counts: requests may not be able to ask. It finds nothing
// if the lookup fails but the connection lasts.
func (w *watch) look(gate directories.Gate, queries []directories.Query) (found []result, err error) {
	if len(queries) == 0 {
		return nil, nil
	}
	err = w.bounded(func(ctx context.Context) error {
		var err error
		if found, err = w.e.find(ctx, gate.Lookup, queries); err == nil {
			err = w.confirm(ctx, gate, queries, found)
		}
		return err
	})
	switch {
	case err == nil:
	case classified(err).Class == directories.Down:
		return nil, err
	default:
		w.e.failed(string(queries[0].Subject), err)
		return nil, nil
	}
	w.rechecked.Add(uint64(len(found)))
	for _, f := range found {
		switch {
		case f.err != nil:
			w.e.journal.unknown(f.err)
			w.e.store.doubt(f.key, f.account.asked, w.e.now())
		case f.account.Exists || !f.account.Replica: // of the others, a request has to ask
			w.e.keep(f)
		}
	}
	return found, nil
}

// confirm looks those up once more that were not found.
func (w *watch) confirm(ctx context.Context, gate directories.Gate, queries []directories.Query, found []result) error {
	var absent []int
	var again []directories.Query
	now := w.e.now()
	for i, f := range found {
		if f.err == nil && !f.account.Exists {
			absent = append(absent, i)
			again = append(again, directories.Query{Subject: queries[i].Subject, Since: now})
		}
	}
	if len(again) > 0 {
		confirmed, err := w.e.find(ctx, gate.Lookup, again)
		if err != nil {
			return err
		}
		for i, at := range absent {
			found[at] = confirmed[i]
		}
	}
	w.e.brake.check(ctx, gate.Lookup, found, true)
	return nil
}
