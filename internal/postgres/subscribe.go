package postgres

import (
	"context"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
)

// NotifySQL is an expression that makes the subscribers of every node read,
// once the transaction that evaluates it is committed.
const NotifySQL = `pg_notify('` + channel + `', '{"others":true}')`

// subscriber reads other tables than the users table.
type subscriber struct {
	read  func(ctx context.Context, conn *pgx.Conn, fresh bool) error
	fresh bool // what was committed earlier is to be read too
}

// subscribers are those of a directory.
type subscribers struct {
	mu  sync.Mutex
	all []*subscriber
}

// refresh notes that a new connection knows nothing of earlier commits.
func (s *subscribers) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		one.fresh = true
	}
}

// list returns the subscribers: all, or those that know nothing yet.
func (s *subscribers) list(all bool) []*subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all {
		return slices.Clone(s.all)
	}
	var fresh []*subscriber
	for _, one := range s.all {
		if one.fresh {
			fresh = append(fresh, one)
		}
	}
	return fresh
}

// begin notes that a subscriber reads what was committed earlier, and reports
// whether it was to.
func (s *subscribers) begin(one *subscriber) (fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh, one.fresh = one.fresh, false
	return fresh
}

// Subscribe has a function called on the connection that watches for changes,
// soon after anything was committed to the database, and with fresh if it may
// have missed something. It must not take long. An error that it returns ends
// the connection. It is called only while the directory is watched.
func (d *Directory) Subscribe(read func(ctx context.Context, conn *pgx.Conn, fresh bool) error) (stop func()) {
	one := &subscriber{read: read, fresh: true}
	s := &d.subscribers
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, one)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all = slices.DeleteFunc(s.all, func(other *subscriber) bool { return other == one })
	}
}

// publish lets subscribers read what was committed.
func (w *watch) publish() error {
	all := w.others
	w.others = false
	for _, one := range w.d.subscribers.list(all) {
		fresh := w.d.subscribers.begin(one)
		if err := w.bounded(func(ctx context.Context) error { return one.read(ctx, w.conn, fresh) }); err != nil {
			return err
		}
	}
	return nil
}
