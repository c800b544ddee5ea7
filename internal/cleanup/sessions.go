package cleanup

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// sessions is a table of sessions, quoted for SQL.
type sessions struct {
	table, user, expires string
	utc                  bool // expires has no time zone, which is UTC then, as Prisma writes it
	users, id            string
	alike                bool // the user's column and the id are of one type
}

// wellKnown are the tables of sessions of Prisma, the adapters of Auth.js, and
// Better Auth, by their columns for the user and the time of expiry.
const findSQL = `select format('%I.%I', n.nspname, c.relname), quote_ident(u.attname), quote_ident(e.attname), format_type(e.atttypid, -1),
  exists (select from pg_attribute a where a.attrelid = to_regclass($2) and a.attname = $3 and a.atttypid = u.atttypid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute u on u.attrelid = c.oid and u.attname in ('userId', 'user_id', 'userid') and not u.attisdropped
  join pg_attribute e on e.attrelid = c.oid and e.attname in ('expires', 'expiresAt', 'expires_at') and not e.attisdropped
    and e.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype)
where c.relkind = 'r'
  and case when $1 <> '' then c.oid = to_regclass($1)
      else c.relname in ('Session', 'sessions', 'session', 'auth_session') and n.nspname = any(current_schemas(false)) end`

// find finds the table of sessions.
func (j *Job) find(ctx context.Context, conn *pgx.Conn) (sessions, error) {
	var s sessions
	var err error
	if s.users, s.id, err = j.users.Table(ctx); err != nil {
		return s, err
	}
	if s.users == "" {
		return s, errQuery
	}
	rows, err := conn.Query(ctx, findSQL, named(j.config.Sessions), s.users, s.id)
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
		return s, fmt.Errorf("%s is no table of sessions: it needs a column userId or user_id, and a time expires, expiresAt or expires_at", j.config.Sessions)
	case len(found) == 0:
		return s, errors.New("no table of sessions was found: name it with `sessions`")
	case len(found) > 1:
		return s, fmt.Errorf("both %s and %s could be the table of sessions: name it with `sessions`", found[0].table, found[1].table)
	}
	return found[0], nil
}

// named quotes the name of a table as users write it: exact, with a schema
// before a dot, unless it is quoted already.
func named(name string) string {
	if name == "" || strings.Contains(name, `"`) {
		return name
	}
	return `"` + strings.ReplaceAll(name, ".", `"."`) + `"`
}

// expired is the condition that a row s has expired.
func (s sessions) expired() string {
	now := "now()"
	if s.utc {
		now = "(now() at time zone 'utc')"
	}
	return fmt.Sprintf("s.%s < %s - interval '%d seconds'", s.expires, now, int(grace.Seconds()))
}

// orphaned is the condition that the user of a row s is gone.
func (s sessions) orphaned() string {
	cast := "::text"
	if s.alike { // an index serves
		cast = ""
	}
	return fmt.Sprintf("s.%[1]s is not null and not exists (select from %[2]s u where u.%[3]s%[4]s = s.%[1]s%[4]s)", s.user, s.users, pgx.Identifier{s.id}.Sanitize(), cast)
}

// countSQL counts all rows, those that have expired, and the others whose user
// is gone, and tells whether there are users.
func (s sessions) countSQL() string {
	return fmt.Sprintf(`select count(*), count(*) filter (where %[1]s), count(*) filter (where not (%[1]s) and %[2]s), exists (select from %[3]s) from %[4]s s`,
		s.expired(), s.orphaned(), s.users, s.table)
}

// removeSQL removes some rows of a condition. It is there twice: a row that is
// renewed meanwhile has to fulfil it once more before it goes. To lock the rows
// first would need the right to change them.
func (s sessions) removeSQL(condition string) string {
	return fmt.Sprintf(`delete from %[1]s s where ctid = any (array(select s.ctid from %[1]s s where %[2]s limit %[3]d)) and %[2]s`,
		s.table, condition, batch)
}
