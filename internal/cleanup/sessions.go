package cleanup

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// sessions is a sessions table, with its names quoted for SQL.
type sessions struct {
	table, user, expires string
	utc                  bool // expires has no time zone: it is UTC, as Prisma writes it
	users, id            string
	alike                bool // user and id have the same type
}

// findSQL finds the sessions tables of Prisma, the Auth.js adapters and Better Auth
// by their name and their columns for the user and the expiry, or only by the
// columns if $1 names the table. $2 is the users table, $3 its id.
const findSQL = `select format('%I.%I', n.nspname, c.relname), quote_ident(u.attname), quote_ident(e.attname), format_type(e.atttypid, -1),
  exists (select from pg_attribute a where a.attrelid = to_regclass($2) and a.attname = $3 and a.atttypid = u.atttypid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute u on u.attrelid = c.oid and u.attname in ('userId', 'user_id', 'userid') and not u.attisdropped
  join pg_attribute e on e.attrelid = c.oid and e.attname in ('expires', 'expiresAt', 'expires_at') and not e.attisdropped
    and e.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype)
where c.relkind = 'r'
  and case when $1 <> '' then c.oid = to_regclass($1)
      else c.relname in ('Session', 'sessions', 'session', 'auth_session') and n.nspname = any(current_schemas(false)) end`

// find finds the sessions table.
func (j *Job) find(ctx context.Context, conn *pgx.Conn) (sessions, error) {
	var s sessions
	var err error
	if s.users, s.id, err = j.users.Table(ctx); err != nil {
		return s, err
	}
	if s.users == "" {
		return s, errQuery
	}
	rows, err := conn.Query(ctx, findSQL, quoted(j.config.Sessions), s.users, s.id)
	if err != nil {
		return s, err
	}
	var found []sessions
	for rows.Next() {
		one := sessions{users: s.users, id: s.id}
		var typeName string
		if err := rows.Scan(&one.table, &one.user, &one.expires, &typeName, &one.alike); err != nil {
			return s, err
		}
		one.utc = typeName == "timestamp without time zone"
		found = append(found, one)
	}
	switch {
	case rows.Err() != nil:
		return s, rows.Err()
	case len(found) == 0 && j.config.Sessions != "":
		return s, fmt.Errorf("%s is not a sessions table: it needs a column userId or user_id, and a timestamp expires, expiresAt or expires_at", j.config.Sessions)
	case len(found) == 0:
		return s, errors.New("no sessions table found: name it with `sessions`")
	case len(found) > 1:
		return s, fmt.Errorf("both %s and %s could be the sessions table: name one with `sessions`", found[0].table, found[1].table)
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

// expired returns the condition that a row s has expired.
func (s sessions) expired() string {
	now := "now()"
	if s.utc {
		now = "(now() at time zone 'utc')"
	}
	return fmt.Sprintf("s.%s < %s - interval '%d seconds'", s.expires, now, int(grace.Seconds()))
}

// orphaned returns the condition that the user of a row s does not exist.
func (s sessions) orphaned() string {
	cast := "::text"
	if s.alike { // so that an index is used
		cast = ""
	}
	return fmt.Sprintf("s.%[1]s is not null and not exists (select from %[2]s u where u.%[3]s%[4]s = s.%[1]s%[4]s)", s.user, s.users, pgx.Identifier{s.id}.Sanitize(), cast)
}

// countSQL counts all rows, the expired ones, and the others that are orphaned, and
// selects whether there are users.
func (s sessions) countSQL() string {
	return fmt.Sprintf(`select count(*), count(*) filter (where %[1]s), count(*) filter (where not (%[1]s) and %[2]s), exists (select from %[3]s) from %[4]s s`,
		s.expired(), s.orphaned(), s.users, s.table)
}

// removeSQL deletes a batch of the rows that meet a condition. The condition is
// there twice, so that a row which is renewed meanwhile is checked again. Locking
// the rows first would need the UPDATE privilege.
func (s sessions) removeSQL(condition string) string {
	return fmt.Sprintf(`delete from %[1]s s where ctid = any (array(select s.ctid from %[1]s s where %[2]s limit %[3]d)) and %[2]s`,
		s.table, condition, batch)
}
