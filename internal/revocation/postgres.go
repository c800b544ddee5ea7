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
func InstallSQL(roles ...string) string {
	var b strings.Builder
	b.WriteString(`create schema if not exists stale_session;
create table if not exists ` + table + ` (
  kind text not null,
  id text not null,
  at timestamptz not null,
  restored boolean not null,
  written xid8 not null,
  primary key (kind, id)
);
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
// of its watch.
type Postgres struct {
	life time.Duration

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
// With a life of 0, revocations are kept for DefaultLife.
func NewPostgres(life time.Duration) *Postgres {
	if life == 0 {
		life = DefaultLife
	}
	return &Postgres{life: life, changed: make(chan struct{})}
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

// putSQL stores revocations that supersede what is stored.
const putSQL = `insert into ` + table + ` as r (kind, id, at, restored, written)
  select k, i, to_timestamp(a / 1e6), b, pg_current_xact_id() from unnest($1::text[], $2::text[], $3::float8[], $4::bool[]) n(k, i, a, b)
on conflict (kind, id) do update set at = excluded.at, restored = excluded.restored, written = excluded.written
  where excluded.at > r.at or excluded.at = r.at and r.restored and not excluded.restored`

// Put implements Store.
func (p *Postgres) Put(ctx context.Context, all []Revocation) error {
	d, _ := p.current()
	if d.Directory == nil {
		return errNoStore
	}
	since := time.Now().Add(-p.life)
	var kinds, ids []string
	var ats []float64
	var restored []bool
	for _, r := range all {
		if key := r.key(); r.At.After(since) {
			kinds, ids = append(kinds, key[:1]), append(ids, key[1:])
			ats, restored = append(ats, float64(r.At.UnixMicro())), append(restored, r.Restored)
		}
	}
	err := d.With(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, putSQL, kinds, ids, ats, restored); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "delete from "+table+" where at < $1", since); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "select "+postgres.NotifySQL)
			return err
		})
	})
	return classify(err)
}

// followSQL returns the oldest running transaction, and the revocations written
// by transaction $1 and later; all if $1 is empty. If $1 is the oldest one that
// was running at the last call, nothing is missed: all before it had ended.
const followSQL = `select pg_snapshot_xmin(s)::text, r.kind, r.id, (extract(epoch from r.at) * 1e6)::float8, r.restored
from pg_current_snapshot() s left join ` + table + ` r on $1::text = '' or r.written >= $1::text::xid8`

// Follow implements Store.
func (p *Postgres) Follow(ctx context.Context, merge func([]Revocation, bool)) error {
	d, changed := p.current()
	if !d.watched {
		return errNoStore
	}
	failed := make(chan error, 1)
	since := ""
	stop := d.Subscribe(func(ctx context.Context, conn *pgx.Conn, fresh bool) error {
		if fresh {
			since = ""
		}
		found, next, err := read(ctx, conn, since)
		if err != nil {
			if conn.IsClosed() { // fresh will be true on the next connection
				return err
			}
			select {
			case failed <- classify(err):
			default:
			}
			return nil
		}
		since = next
		if fresh || len(found) > 0 {
			merge(found, fresh)
		}
		return nil
	})
	defer stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
		return errNoStore
	case err := <-failed:
		return err
	}
}

func read(ctx context.Context, conn *pgx.Conn, since string) (found []Revocation, next string, err error) {
	if since == "" { // a query for a missing table would fill the server's log with errors
		var exists bool
		if err := conn.QueryRow(ctx, "select to_regclass('"+table+"') is not null").Scan(&exists); err != nil {
			return nil, "", err
		}
		if !exists {
			return nil, "", errNoStore
		}
	}
	rows, err := conn.Query(ctx, followSQL, since)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	for rows.Next() {
		var kind, id *string
		var at *float64
		var restored *bool
		if err := rows.Scan(&next, &kind, &id, &at, &restored); err != nil {
			return nil, "", err
		}
		if kind == nil {
			continue
		}
		if r, ok := parse(*kind+*id, state{time.UnixMicro(int64(*at)), *restored}); ok {
			found = append(found, r)
		}
	}
	return found, next, rows.Err()
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
	case pg.Code == "42501":
		return errors.New("the role may not use the table " + table + ": run `caddy stale-session install --grant ROLE` with the address of the owner")
	}
	return postgres.Classify(err)
}
