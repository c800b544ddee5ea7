package postgres

import (
	"context"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
)

// NotifySQL notifies the subscribers on every node of what is committed. It is to be
// a transaction of its own, which waits for no standby, because it writes nothing:
// transactions of the app that notify would wait behind it.
const NotifySQL = `select pg_notify('` + channel + `', '{"others":true}')`

// subscriber reads other tables than the users table.
type subscriber struct {
	read  func(ctx context.Context, conn *pgx.Conn, fresh bool) error
	fresh bool // it has not read earlier commits yet
}

// subscribers are the subscribers of a directory.
type subscribers struct {
	mu  sync.Mutex
	all []*subscriber
}

// refresh marks all as fresh, after commits may have been missed.
func (s *subscribers) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		one.fresh = true
	}
}

// list returns all subscribers, or those that are fresh.
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

// begin marks a subscriber as no longer fresh, and reports whether it was.
func (s *subscribers) begin(one *subscriber) (fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh, one.fresh = one.fresh, false
	return fresh
}

// Subscribe calls read on the connection that watches for changes, soon after any
// commit to the database; with fresh if commits may have been missed. While read
// runs, no change is noticed. An error of read ends the connection. Nothing is
// called unless the directory is watched.
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

// Following reports whether subscribers are called: whether the connection that
// watches for changes is there.
func (d *Directory) Following() bool { return d.following.Load() }

// Read calls read on a connection for lookups, for as long as a query may take: a
// server that hangs must not keep the connection, nor what waits for read to end.
func (d *Directory) Read(ctx context.Context, read func(ctx context.Context, conn *pgx.Conn) error) error {
	conn, err := d.lookups.acquire(ctx, d.pool)
	if err != nil {
		return err
	}
	defer conn.Release()
	ctx, cancel := context.WithTimeout(ctx, deadline.Query)
	defer cancel()
	return read(ctx, conn.Conn())
}

// publish calls the subscribers.
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
