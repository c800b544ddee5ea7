package revocation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
)

// table is the table of revocations, in the users' database.
const table = "stale_session.revocations"

// InstallSQL returns the SQL that creates the table through which nodes share
// revocations, and grants its use to roles, such as the one that Caddy connects
// as. It can be run repeatedly. postgres.UninstallSQL removes the table.
//
// Rows without users are of an earlier version, and of every users table. Whatever
// writes a row, also a restore or a replica, a trigger records its transaction: what
// reads the later ones misses none.
func InstallSQL(roles ...string) string {
	var b strings.Builder
	b.WriteString(`create schema if not exists stale_session;
create table if not exists ` + table + ` (
  users text not null default '',
  kind text not null,
  id text not null,
  at timestamptz not null,
  restored boolean not null,
  written xid8 not null,
  primary key (users, kind, id)
);
do $body$
begin
  if not exists (select from pg_attribute where attrelid = '` + table + `'::regclass and attname = 'users' and not attisdropped) then
    alter table ` + table + ` add column users text not null default '', drop constraint revocations_pkey, add primary key (users, kind, id);
  end if;
end
$body$;
create or replace function stale_session.written() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $body$
begin
  new.written := pg_current_xact_id();
  return new;
end
$body$;
drop trigger if exists written on ` + table + `;
create trigger written before insert or update on ` + table + ` for each row execute function stale_session.written();
alter table ` + table + ` enable always trigger written;
create index if not exists revocations_written on ` + table + ` (written);
create index if not exists revocations_at on ` + table + ` (at);
comment on table ` + table + ` is 'Sessions revoked by an operator or an identity provider, shared by all nodes of caddy-stale-session';
`)
	for _, role := range roles {
		name := pgx.Identifier{role}.Sanitize()
		fmt.Fprintf(&b, "grant usage on schema stale_session to %s;\ngrant select, insert, update, delete on %s to %s;\n", name, table, name)
	}
	return b.String()
}

// Postgres is a Store in the users' database: the table that InstallSQL creates.
// It uses the connections of a directory, and follows changes on the connection
// of its watch, or on one for lookups while that is not there.
type Postgres struct {
	life       time.Duration
	identified func(users string)

	mu        sync.Mutex
	databases []database
	changed   chan struct{} // closed when another database is selected
}

// database is a directory in the database of the store.
type database struct {
	*postgres.Directory
	watched bool // for changes
}

// NewPostgres returns a store that does not exist until Use gives it a directory.
// Revocations older than life are not read; 0 is DefaultLife. The store calls
// identified, which may be nil, with what identifies the users, whatever the address
// of their database is.
func NewPostgres(life time.Duration, identified func(users string)) *Postgres {
	if life == 0 {
		life = DefaultLife
	}
	if identified == nil {
		identified = func(string) {}
	}
	return &Postgres{life: life, identified: identified, changed: make(chan struct{})}
}

// Use lets the store use a directory of its database until release is called. Only
// a directory that is watched for changes receives revocations of other nodes.
func (p *Postgres) Use(d *postgres.Directory, watched bool) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	added := database{d, watched}
	p.set(append(slices.Clone(p.databases), added))
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		i := slices.Index(p.databases, added)
		p.set(slices.Delete(slices.Clone(p.databases), i, i+1))
	}
}

// set sets the directories. The caller holds p.mu.
func (p *Postgres) set(all []database) {
	before := p.selected()
	if p.databases = all; p.selected() != before {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// selected returns the database to use, a watched one if there is one; the zero
// value if there is none. The caller holds p.mu.
func (p *Postgres) selected() database {
	for _, d := range p.databases {
		if d.watched {
			return d
		}
	}
	if len(p.databases) > 0 {
		return p.databases[0]
	}
	return database{}
}

// current returns the database to use, and a channel that is closed once it is
// another one.
func (p *Postgres) current() (database, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.selected(), p.changed
}

// String implements Store.
func (p *Postgres) String() string {
	d, _ := p.current()
	if d.Directory == nil {
		return "table " + table
	}
	return "table " + table + " in " + d.String()
}

// putSQL stores revocations of the users $5 that supersede what is stored, and what
// is dated so far ahead that it does not count.
const putSQL = `insert into ` + table + ` as r (users, kind, id, at, restored, written)
  select $5, k, i, to_timestamp(a / 1e6), b, pg_current_xact_id() from unnest($1::text[], $2::text[], $3::float8[], $4::bool[]) n(k, i, a, b)
on conflict (users, kind, id) do update set at = excluded.at, restored = excluded.restored, written = excluded.written
  where excluded.at > r.at or excluded.at = r.at and r.restored and not excluded.restored or r.at > now() + interval '1 day'`

// pruneSQL deletes what no session is as old as, by the clock of the database and
// whatever the life of a node is: others may keep it for longer. A block stays.
const pruneSQL = `delete from ` + table + ` where at < now() - interval '400 days' and (kind <> 'b' or restored)
  or kind = 'm' and at < now() - interval '8 days'`

// Put implements Store.
func (p *Postgres) Put(ctx context.Context, all []Revocation) error {
	d, _ := p.current()
	if d.Directory == nil {
		return errNoStore
	}
	var kinds, ids []string
	var ats []float64
	var restored []bool
	for _, r := range all {
		key := r.Key()
		kinds, ids = append(kinds, key[:1]), append(ids, key[1:])
		ats, restored = append(ats, float64(r.At.UnixMicro())), append(restored, r.Restored)
	}
	err := d.With(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if err := exists(ctx, conn); err != nil {
			return err
		}
		users, err := d.Identify(ctx, conn)
		if err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, putSQL, kinds, ids, ats, restored, users.Table); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, pruneSQL)
			return err
		})
		if err == nil {
			_, _ = conn.Exec(ctx, postgres.NotifySQL) // or else the others read it at their next poll
		}
		return err
	})
	return classify(err)
}

// followSQL returns the oldest running transaction, the table, and the revocations
// of the users $2 written by transaction $1 and later; all if $1 is empty. If $1 is
// the oldest one that was running at the last call, nothing is missed: all before it
// had ended.
const followSQL = `select pg_snapshot_xmin(s)::text, '` + table + `'::regclass::oid::text, r.kind, r.id, (extract(epoch from r.at) * 1e6)::float8, r.restored
from pg_current_snapshot() s left join ` + table + ` r on r.users in ('', $2) and ($1::text = '' or r.written >= $1::text::xid8)
  and (r.at > now() - make_interval(secs => $3) or r.kind = 'b')`

const (
	// firstPoll is how long Follow waits for the connection of the watch at first.
	firstPoll = 300 * time.Millisecond
	// pollPeriod is how often Follow reads while that is not there.
	pollPeriod = 3 * time.Second
)

// Follow implements Store.
func (p *Postgres) Follow(ctx context.Context, merge func([]Revocation, bool)) error {
	d, changed := p.current()
	if !d.watched {
		return errNoStore
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &follower{p: p, d: d.Directory, merge: merge}
	stop := d.Subscribe(func(ctx context.Context, conn *pgx.Conn, fresh bool) error {
		err := f.read(ctx, conn, fresh)
		switch {
		case err == nil || !conn.IsClosed():
			if err != nil {
				cancel(classify(err))
			}
			return nil
		default: // fresh will be true on the next connection
			return err
		}
	})
	defer stop()
	timer := time.NewTimer(firstPoll)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
			return errNoStore
		case <-timer.C:
		}
		if !d.Following() {
			if err := d.Read(ctx, func(ctx context.Context, conn *pgx.Conn) error { return f.read(ctx, conn, false) }); err != nil {
				return classify(err)
			}
		}
		timer.Reset(pollPeriod)
	}
}

// follower reads what is written to the table. Its reads are in turns: the watch may
// come back while another connection reads.
type follower struct {
	p     *Postgres
	d     *postgres.Directory
	merge func([]Revocation, bool)

	mu    sync.Mutex
	since string // the oldest transaction that was running; empty to read all
	table string // as read last, and whose users: one that was recreated is another
}

// read reads what was written since the last read, or everything.
func (f *follower) read(ctx context.Context, conn *pgx.Conn, fresh bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fresh {
		f.since = ""
	}
	users, err := f.d.Identify(ctx, conn)
	if err != nil {
		f.since = ""
		return err
	}
	if f.since == "" {
		f.p.identified(users.String())
		if err := exists(ctx, conn); err != nil {
			return err
		}
	}
	complete := f.since == ""
	found, table, next, err := f.query(ctx, conn, users.Table)
	if err == nil && !complete && table != f.table {
		f.since, complete = "", true
		found, table, next, err = f.query(ctx, conn, users.Table)
	}
	if err != nil {
		f.since = ""
		return err
	}
	f.since, f.table = next, table
	if complete || len(found) > 0 {
		f.merge(found, complete)
	}
	return nil
}

// query returns what of some users was written since f.since, and the new values of
// f.table and f.since.
func (f *follower) query(ctx context.Context, conn *pgx.Conn, users string) (found []Revocation, table, next string, err error) {
	rows, err := conn.Query(ctx, followSQL, f.since, users, f.p.life.Seconds())
	if err != nil {
		return nil, "", "", err
	}
	defer rows.Close()
	for rows.Next() {
		var kind, id *string
		var at *float64
		var restored *bool
		if err := rows.Scan(&next, &table, &kind, &id, &at, &restored); err != nil {
			return nil, "", "", err
		}
		if kind == nil {
			continue
		}
		if r, ok := Parse(*kind+*id, time.UnixMicro(int64(*at)), *restored); ok {
			found = append(found, r)
		}
	}
	return found, table + " " + users, next, rows.Err()
}

// exists returns errNoStore if the table does not exist: a query would fill the
// server's log with errors.
func exists(ctx context.Context, conn *pgx.Conn) error {
	var exists bool
	if err := conn.QueryRow(ctx, "select to_regclass('"+table+"') is not null").Scan(&exists); err != nil {
		return err
	}
	if !exists {
		return errNoStore
	}
	return nil
}

// forbidden returns the error of a role without the rights to the table.
func forbidden(role string) error {
	return errors.New("the role may not use the table " + table + ": run `caddy stale-session install --grant " + role + "` with the address of the owner")
}

// classify returns an error that says what to do; errNoStore if the table does
// not exist.
func classify(err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil || errors.Is(err, errNoStore):
		return err
	case !errors.As(err, &pg):
		return postgres.Classify(err)
	case pg.Code == "42P01" || pg.Code == "3F000":
		return errNoStore
	case pg.Code == "42703" || pg.Code == "42P10":
		return errors.New("the table " + table + " is of an earlier version: run `caddy stale-session install` again")
	case pg.Code == "42501":
		return forbidden("ROLE")
	}
	return postgres.Classify(err)
}
