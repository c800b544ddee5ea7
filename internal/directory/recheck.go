package directory

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// Accounts are looked up again a tenth of the time at most, over a while,
	// and this long at a time.
	maxDuty  = 10
	maxBurst = time.Second
	// maxRecheck is how many accounts a statement of the watch asks for. While
	// one is under way, no notification arrives.
	maxRecheck = 1000
)

// recheck looks the accounts in use up again that may have changed, for as
// long as it may.
func (w *watch) recheck(conn *pgx.Conn) error {
	w.earn(time.Now())
	for w.credit > 0 {
		if w.todo.count == 0 {
			if !w.moved {
				w.behind.Store(0)
				return nil
			}
			w.moved = false
			w.behind.Store(int64(w.movedAt))
			w.todo = w.recent.list(windowOf(w.p.instant(w.p.now())))
		}
		if err := w.counting(func() error { return w.recheckSome(conn, w.next()) }); err != nil {
			return err
		}
	}
	return nil
}

// next takes some subjects that are to be looked up from the list.
func (w *watch) next() []string {
	var subjects []string
	now := w.p.now()
	var known Account
	for w.todo.count > 0 && len(subjects) < maxRecheck {
		if subject := w.todo.next(); w.p.accounts.get(subject, now, &known) && !w.holds(&known) {
			subjects = append(subjects, string(subject))
		}
	}
	return subjects
}

// recheckSome looks subjects up. One that is not found is dropped: its next
// request looks it up once more before its session ends.
func (w *watch) recheckSome(conn *pgx.Conn, subjects []string) error {
	if len(subjects) == 0 {
		return nil
	}
	var found []finding
	err := w.ask(func(ctx context.Context) error {
		var err error
		if found, err = w.p.findOn(ctx, conn, subjects); err == nil {
			w.p.brake.check(ctx, conn, found)
		}
		return err
	})
	switch {
	case err == nil:
	case broken(err) && classOf(err) == Down:
		return err
	default: // nothing is known: the accounts stay what they were
		if classOf(err) == Schema {
			w.p.statement.Store(nil)
		}
		w.move(w.p.instant(w.p.now()))
		w.todo = subjectList{}
		w.p.failed(classify(err))
		if conn.IsClosed() {
			return err
		}
		w.credit = min(w.credit, 0)
		return nil
	}
	w.rechecked.Add(uint64(len(found)))
	for _, f := range found {
		if f.account.Exists {
			w.p.keep(f)
		} else {
			w.p.accounts.drop(f.key)
		}
	}
	return nil
}

// counting does a part of looking accounts up, and counts the time that it
// takes: that of the database, and that of this process.
func (w *watch) counting(work func() error) error {
	began := time.Now()
	err := work()
	w.credit -= time.Since(began)
	return err
}

// earn adds to the time that accounts may be looked up for.
func (w *watch) earn(now time.Time) {
	w.credit = min(w.credit+now.Sub(w.counted)/maxDuty, maxBurst)
	w.counted = now
}
