package directory

import (
	"context"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// BesideSQL is an expression that tells those who follow, on every node, once
// the transaction is committed that evaluates it.
const BesideSQL = `pg_notify('` + channel + `', '{"beside":true}')`

// follower is somebody who reads what lies beside the users.
type follower struct {
	read  func(ctx context.Context, conn *pgx.Conn, fresh bool) error
	fresh bool // what was committed before is to be read too
}

// followers are those who follow.
type followers struct {
	mu  sync.Mutex
	all []*follower
}

// refresh tells that a new connection knows nothing of what was before.
func (f *followers) refresh() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.all {
		one.fresh = true
	}
}

// list returns those to be told: all, or those that know nothing yet.
func (f *followers) list(all bool) []*follower {
	f.mu.Lock()
	defer f.mu.Unlock()
	if all {
		return slices.Clone(f.all)
	}
	var fresh []*follower
	for _, one := range f.all {
		if one.fresh {
			fresh = append(fresh, one)
		}
	}
	return fresh
}

// told notes that a follower knows what was committed before.
func (f *followers) told(one *follower) (fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fresh, one.fresh = one.fresh, false
	return fresh
}

// Watched tells whether the database is watched, so that Follow is ok.
func (p *Postgres) Watched() bool { return p.watch != nil }

// Follow has a function called on the connection of the watch, soon after
// anything was committed to the database, and with fresh when it may have missed
// something. It must not take long. An error that it returns ends the
// connection. It is not ok when the database is not watched.
func (p *Postgres) Follow(read func(ctx context.Context, conn *pgx.Conn, fresh bool) error) (stop func(), ok bool) {
	if p.watch == nil {
		return nil, false
	}
	one := &follower{read: read, fresh: true}
	f := &p.followers
	f.mu.Lock()
	f.all = append(f.all, one)
	f.mu.Unlock()
	p.watching.Do(p.startWatch)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.all = slices.DeleteFunc(f.all, func(other *follower) bool { return other == one })
	}, true
}

// tell lets those who follow read what was committed.
func (w *watch) tell(conn *pgx.Conn) error {
	all := w.beside
	w.beside = false
	for _, one := range w.p.followers.list(all) {
		fresh := w.p.followers.told(one)
		if err := w.ask(func(ctx context.Context) error { return one.read(ctx, conn, fresh) }); err != nil {
			return err
		}
	}
	return nil
}

// Write connects to a server that takes writes, with the role's own settings,
// for a function.
func (p *Postgres) Write(ctx context.Context, do func(ctx context.Context, conn *pgx.Conn) error) error {
	config, err := p.address.poolConfig()
	if err != nil {
		return err
	}
	if err := p.takeUpPassword(config.ConnConfig); err != nil {
		return err
	}
	config.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return classify(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(ctx, conn)
}

// Classify makes an *Error of an error of the driver: it says what to do, and
// never holds a password.
func Classify(err error) error { return classify(err) }
