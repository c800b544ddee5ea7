package cleanup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// sessions is a sessions table, with its names quoted for SQL.
type sessions struct {
	table, user, expires string
	zoned                bool   // expires has a time zone
	users, id            string // users is empty if a query replaces the table
	referenced           bool   // a foreign key refers to the user: none is missing
}

const (
	// grace is how long an expired row is kept, because clocks differ.
	grace = time.Hour
	// westernmost is how far the last time zone is behind UTC. A time without a zone
	// may be of any: node-postgres writes the zone of the app, Prisma writes UTC.
	westernmost = 12 * time.Hour
)

// findSQL finds the sessions tables of Prisma, the Auth.js adapters and Better Auth
// by their name and their columns for the user and the expiry, or only by the
// columns if $1 names the table.
const findSQL = `select format('%I.%I', n.nspname, c.relname), quote_ident(u.attname), quote_ident(e.attname), e.atttypid = 'timestamptz'::regtype,
  exists (select from pg_constraint f where f.conrelid = c.oid and f.contype = 'f' and u.attnum = any(f.conkey))
from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute u on u.attrelid = c.oid and u.attname in ('userId', 'user_id', 'userid') and not u.attisdropped
  join pg_attribute e on e.attrelid = c.oid and e.attname in ('expires', 'expiresAt', 'expires_at') and not e.attisdropped
    and e.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype)
where c.relkind = 'r'
  and case when $1 <> '' then c.oid = to_regclass($1)
      else c.relname in ('Session', 'sessions', 'session', 'auth_session') and n.nspname = any(current_schemas(false)) end`

// find finds the sessions table, but not yet that of the users.
func (j *Job) find(ctx context.Context, conn *pgx.Conn) (sessions, error) {
	rows, err := conn.Query(ctx, findSQL, quoted(j.config.Sessions))
	if err != nil {
		return sessions{}, err
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s sessions, err error) {
		return s, row.Scan(&s.table, &s.user, &s.expires, &s.zoned, &s.referenced)
	})
	switch {
	case err != nil:
		return sessions{}, err
	case len(found) == 0 && j.config.Sessions != "":
		return sessions{}, fmt.Errorf("%s is not a sessions table: it needs a column userId or user_id, and a timestamp expires, expiresAt or expires_at", j.config.Sessions)
	case len(found) == 0:
		return sessions{}, errors.New("no sessions table found: name it with `sessions`")
	case len(found) > 1:
		return sessions{}, fmt.Errorf("both %s and %s could be the sessions table: name one with `sessions`", found[0].table, found[1].table)
	}
	return found[0], nil
}

// quoted quotes the name of a table, which may have its schema before a dot, unless
// it is quoted already.
func quoted(name string) string {
	if name == "" || strings.Contains(name, `"`) {
		return name
	}
	return `"` + strings.ReplaceAll(name, ".", `"."`) + `"`
}

// expired returns the condition that a row s has expired, by the clock of the
// database and by our time $1, whatever the time zone of its time is.
func (s sessions) expired() string {
	now, kept := "least(now(), $1::timestamptz)", grace
	if !s.zoned {
		now, kept = "("+now+" at time zone 'utc')", grace+westernmost
	}
	return fmt.Sprintf("s.%s < %s - interval '%d seconds'", s.expires, now, int(kept.Seconds()))
}

// orphaned returns the condition that a row s has not expired, and that there seems to
// be no user of it, whatever the letter case of the id is: databases differ in how
// they spell a UUID.
func (s sessions) orphaned() string {
	return fmt.Sprintf("(%s) is not true and s.%s is not null and not %s", s.expired(), s.user, s.userExists())
}

// userExists returns the condition that there seems to be a user of a row s.
func (s sessions) userExists() string {
	return fmt.Sprintf("exists (select from %s u where lower(u.%s::text) = lower(s.%s::text))", s.users, pgx.Identifier{s.id}.Sanitize(), s.user)
}

// rowsSQL returns a query for the identities of rows that meet a condition.
func (s sessions) rowsSQL(condition string) string {
	return fmt.Sprintf("select s.ctid::text from %s s where %s limit %d", s.table, condition, maxRows)
}

// removeSQL deletes those of the rows $2 that still meet a condition: they may have
// been renewed meanwhile.
func (s sessions) removeSQL(condition string) string {
	return fmt.Sprintf("delete from %s s where s.ctid = any($2::text[]::tid[]) and %s", s.table, condition)
}
