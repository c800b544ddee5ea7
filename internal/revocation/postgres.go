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

// table is where revocations are kept beside the users.
const table = "stale_session.revocations"

// InstallSQL makes the table through which the nodes of a fleet share their
// revocations, and lets roles use it that read the users. It can be run again
// and again. postgres.UninstallSQL removes it.
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
comment on table ` + table + ` is 'Sessions that were ended by hand or by an identity provider, for all nodes of caddy-stale-session';
`)
	for _, role := range roles {
		name := pgx.Identifier{role}.Sanitize()
		fmt.Fprintf(&b, "grant usage on schema stale_session to %s;\ngrant select, insert, update, delete on %s to %s;\n", name, table, name)
	}
	return b.String()
}

// Postgres is a store in the users' database: a table that InstallSQL makes. It
// is read on the connection of the watch of one of the directories that use it.
type Postgres struct {
	life time.Duration

	mu      sync.Mutex
	users   []users
	changed chan struct{} // closed when another one is to be followed
}

// users are a directory that uses a store.
type users struct {
	*postgres.Directory
	watched bool // for changes
}

// NewPostgres returns a store that is nowhere until a directory uses it.
func NewPostgres(life time.Duration) *Postgres {
	if life == 0 {
		life = DefaultLife
	}
	return &Postgres{life: life, changed: make(chan struct{})}
}

// Use has the store use a directory of its database, until it is released.
// Revocations of other nodes arrive through one that is watched for changes.
func (p *Postgres) Use(d *postgres.Directory, watched bool) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	used := users{d, watched}
	p.use(append(slices.Clone(p.users), used))
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		at := slices.Index(p.users, used)
		p.use(slices.Delete(slices.Clone(p.users), at, at+1))
	}
}

// use sets the directories. The caller holds p.mu.
func (p *Postgres) use(all []users) {
	before := p.chosen()
	if p.users = all; p.chosen() != before {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// chosen returns the directory to use: a watched one, if there is any; the zero
// value for none. The caller holds p.mu.
func (p *Postgres) chosen() users {
	for _, one := range p.users {
		if one.watched {
			return one
		}
	}
	if len(p.users) > 0 {
		return p.users[0]
	}
	return users{}
}

// first returns the directory to use, and what is closed when it is another one.
func (p *Postgres) first() (users, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chosen(), p.changed
}

// String names the store.
func (p *Postgres) String() string {
	d, _ := p.first()
	if d.Directory == nil {
		return "the table " + table
	}
	return "the table " + table + " of the " + d.String()
}

// putSQL keeps what is later than what is there.
const putSQL = `insert into ` + table + ` as r (kind, id, at, restored, written)
  select k, i, to_timestamp(a / 1e6), b, pg_current_xact_id() from unnest($1::text[], $2::text[], $3::float8[], $4::bool[]) n(k, i, a, b)
on conflict (kind, id) do update set at = excluded.at, restored = excluded.restored, written = excluded.written
  where excluded.at > r.at or excluded.at = r.at and r.restored and not excluded.restored`

// Put implements Store.
func (p *Postgres) Put(ctx context.Context, all []Revocation) error {
	d, _ := p.first()
	if d.Directory == nil {
		return errNowhere
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
	return explained(err)
}

// followSQL returns what was written by transactions that may not have been
// over at a snapshot, and where that of this statement begins.
const followSQL = `select pg_snapshot_xmin(s)::text, r.kind, r.id, (extract(epoch from r.at) * 1e6)::float8, r.restored
from pg_current_snapshot() s left join ` + table + ` r on $1::text = '' or r.written >= $1::text::xid8`

// Follow implements Store.
func (p *Postgres) Follow(ctx context.Context, merge func([]Revocation, bool)) error {
	d, changed := p.first()
	if !d.watched {
		return errNowhere
	}
	gone := make(chan error, 1)
	since := ""
	stop := d.Subscribe(func(ctx context.Context, conn *pgx.Conn, fresh bool) error {
		if fresh {
			since = ""
		}
		found, next, err := read(ctx, conn, since)
		if err != nil {
			if conn.IsClosed() { // the next connection begins anew
				return err
			}
			select {
			case gone <- explained(err):
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
		return errNowhere
	case err := <-gone:
		return err
	}
}

func read(ctx context.Context, conn *pgx.Conn, since string) (found []Revocation, next string, err error) {
	if since == "" { // rather ask than fill the server's log with errors
		var there bool
		if err := conn.QueryRow(ctx, "select to_regclass('"+table+"') is not null").Scan(&there); err != nil {
			return nil, "", err
		}
		if !there {
			return nil, "", errNowhere
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
		if r, ok := ofKey(*kind+*id, time.UnixMicro(int64(*at)), *restored); ok {
			found = append(found, r)
		}
	}
	return found, next, rows.Err()
}

// explained is an error that says what to do: errNowhere when the table is not
// there.
func explained(err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil || errors.Is(err, errNowhere):
		return err
	case !errors.As(err, &pg):
		return postgres.Classify(err)
	case pg.Code == "42P01" || pg.Code == "3F000":
		return errNowhere
	case pg.Code == "42501":
		return errors.New("the role may not use the table " + table + ": caddy stale-session install --grant ROLE, with the address of the owner")
	}
	return postgres.Classify(err)
}
