package postgres

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// statement is the query that looks accounts up.
type statement struct {
	sql string
	// anyCaseSQL is the same, but ignores the case of email addresses, as apps do;
	// empty if the ids are no text, or of a type that ignores case.
	anyCaseSQL string
	relation   relation
	id         idType
	index      idIndex
	table      string   // quoted; empty for Config.Query
	users      Users    // the columns that it reads
	matched    []string // the columns that claims must equal
	columns    string   // for the log
	made       time.Time
}

// String returns the table and the columns.
func (s *statement) String() string { return strings.TrimSpace(s.table + " " + s.columns) }

// columns maps the columns of a table or query to their types.
type columns map[string]string

// source is what the statement reads from.
type source struct {
	from    string // SQL after "left join", without an alias
	table   string
	columns columns
	relation
	id idIndex
}

// newStatement returns the statement for a source. Users names the columns to
// read.
func newStatement(from source, users Users) (*statement, error) {
	idName, ok := from.columns[users.ID]
	if !ok {
		return nil, from.missing("id", users.ID)
	}
	id, ok := idTypeOf(idName)
	if !ok {
		return nil, schemaError("the id column %q is of type %s; it must be text, varchar, citext, uuid or an integer", users.ID, idName)
	}
	created, err := from.time("created_at", users.CreatedAt)
	if err != nil {
		return nil, err
	}
	validAfter, err := from.time("valid_after", users.ValidAfter)
	if err != nil {
		return nil, err
	}
	disabled, err := from.disabled(users)
	if err != nil {
		return nil, err
	}
	names := users.matched()
	matched := make([]string, len(names))
	for i, name := range names {
		if _, ok := from.columns[name]; !ok {
			return nil, from.missing("match", name)
		}
		matched[i] = "convert_to(" + column(name) + "::text, 'UTF8')"
	}
	made := &statement{
		relation: from.relation, id: id, index: from.id, table: from.table, users: users, matched: names,
		columns: fmt.Sprintf("id %s (%s), created_at %s, valid_after %s, disabled %s, match %s", users.ID, id.name,
			orNone(users.CreatedAt), orNone(users.ValidAfter), orNone(strings.Join(users.Disabled, " ")), orNone(strings.Join(names, " "))),
	}
	// The cast to the id's own type keeps its index in use. The left join
	// returns a row for each subject, with whether the server is a standby.
	// With an index, "offset 0" makes the planner look each subject up by
	// itself: for many it would otherwise read the whole table, which takes
	// several times as long.
	sql := func(same string, indexed bool) string {
		join := from.from + " u on " + same
		if indexed {
			join = "lateral (select " + strings.Join(users.columns(), ", ") + " from " + from.from + " u where " + same + " offset 0) u on true"
		}
		return fmt.Sprintf(`select k.ord, u.%s is not null, pg_is_in_recovery(), %s, %s, %s, array[%s]::bytea[], date_part('epoch', pg_postmaster_start_time())
from unnest($1::text[]) with ordinality k(subject, ord)
left join %s`,
			quote(users.ID), created, validAfter, disabled, strings.Join(matched, ", "), join)
	}
	same := id.same(quote(users.ID), from.id.equals)
	made.sql = sql(same, from.id.indexed)
	if id.kind == kindText && !id.ignoresCase() {
		made.anyCaseSQL = sql(sameEmail(quote(users.ID))+" and (strpos(k.subject, '@') > 0 or "+same+")", from.id.lowered && from.table != "")
	}
	return made, nil
}

// same returns the SQL condition that the subject k.subject is the id in a column
// of u.
func (t idType) same(column, equals string) string {
	return fmt.Sprintf("u.%s %s k.subject::%s", column, equals, t.name)
}

// sameEmail is the same for email addresses, whose case apps ignore.
func sameEmail(column string) string {
	return fmt.Sprintf("lower(u.%s::text) = lower(k.subject)", column)
}

// sqlFor returns the SQL that looks ids up. Without an index, the case of email
// addresses is ignored only to confirm: each reads the whole table.
func (s *statement) sqlFor(ids []string, confirming bool) string {
	if (confirming || s.index.lowered) && s.ofAnyCase(ids) {
		return s.anyCaseSQL
	}
	return s.sql
}

// ofAnyCase reports whether the case of an id is to be ignored.
func (s *statement) ofAnyCase(ids []string) bool {
	return s.anyCaseSQL != "" && slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(id, "@") })
}

// uncertain reports whether the rows that were found may not be all of a subject,
// or not those that the app sees. Then they have to be confirmed before one ends
// a session.
func (s *statement) uncertain(ids []string) bool {
	return !s.index.unique || len(s.relation.rivals) > 0 || s.relation.lags != "" || !s.index.lowered && s.ofAnyCase(ids)
}

// names returns the columns that are named, each once. The role may not be
// allowed to read others.
func (u Users) names() []string {
	var all []string
	for _, name := range slices.Concat([]string{u.ID, u.CreatedAt, u.ValidAfter, u.bannedUntil.column}, u.Disabled, u.matched()) {
		if name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	if len(u.beside) > 0 {
		all = slices.Concat(all, u.beside)
		slices.Sort(all)
		all = slices.Compact(all)
	}
	return all
}

// columns returns the same columns of the joined table as SQL.
func (u Users) columns() []string {
	all := u.names()
	for i, name := range all {
		all[i] = column(name)
	}
	return all
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// time returns the SQL of a time column as seconds since 1970. A timestamp
// without a time zone is UTC, whatever the time zone of the session.
func (s source) time(option, name string) (string, error) {
	if name == "" {
		return "null::float8", nil
	}
	switch t, ok := s.columns[name]; {
	case !ok:
		return "", s.missing(option, name)
	case !isTime(t):
		return "", schemaError("the column %q of %s is of type %s; it must be a timestamp or a date", name, option, t)
	}
	// "infinity" has no number of seconds.
	return fmt.Sprintf("case when isfinite(%[1]s) then date_part('epoch', %[1]s) end", column(name)), nil
}

// isTime reports whether a type is a date or a timestamp.
func isTime(t string) bool {
	return t == "date" || strings.HasPrefix(t, "timestamp")
}

// disabled returns the SQL condition that one of the columns disables the user.
func (s source) disabled(users Users) (string, error) {
	names := users.Disabled
	terms := []string{"false"}
	for _, name := range names {
		t, ok := s.columns[name]
		switch c := column(name); {
		case !ok:
			return "", s.missing("disabled", name)
		case t == "boolean" && name == banned && users.bannedUntil.column != "":
			terms = append(terms, "coalesce("+c+", false) and "+users.bannedUntil.holds())
		case t == "boolean":
			terms = append(terms, "coalesce("+c+", false)")
		case isTime(t) && slices.Contains(disablesUntil, name):
			terms = append(terms, "coalesce(extract(epoch from "+c+") > extract(epoch from now()), false)")
		case isTime(t) && users.softDeletes:
			terms = append(terms, c+" is not null")
		case isTime(t):
			terms = append(terms, "coalesce(extract(epoch from "+c+") <= extract(epoch from now()), false)")
		case t == "smallint" || t == "integer" || t == "bigint":
			terms = append(terms, "coalesce("+c+" <> 0, false)")
		default:
			return "", schemaError("the column %q of disabled is of type %s; it must be a boolean, a timestamp, a date or an integer", name, t)
		}
	}
	return strings.Join(terms, " or "), nil
}

// holds returns the SQL condition that a ban has not ended. In a time zone that is not
// known, it may have ended as early as anywhere.
func (b ban) holds() string {
	now := "now()"
	if b.local {
		now = "now() + interval '14 hours'"
	}
	return fmt.Sprintf("coalesce(extract(epoch from %s) > extract(epoch from %s), true)", column(b.column), now)
}

// missing returns the error that a column does not exist, with similar names.
func (s source) missing(option, name string) error {
	var near []string
	for other := range s.columns {
		if alike(other, name) {
			near = append(near, other)
		}
	}
	slices.Sort(near)
	what := "the users table"
	if s.table == "" {
		what = "the query"
	}
	if len(near) > 0 {
		return schemaError("%s has no column %q for %s, but %q: names are case-sensitive", what, name, option, near)
	}
	return schemaError("%s has no column %q for %s", what, name, option)
}

// alike reports whether two names differ only in case, underscores and a plural.
func alike(a, b string) bool {
	plain := func(s string) string {
		return strings.TrimSuffix(strings.ReplaceAll(strings.ToLower(s), "_", ""), "s")
	}
	return plain(a) == plain(b)
}

func schemaError(format string, args ...any) error {
	return &directories.Error{Class: directories.Schema, Text: fmt.Sprintf(format, args...)}
}

// quote returns a name as an SQL identifier.
func quote(names ...string) string {
	return pgx.Identifier(names).Sanitize()
}

// column returns a column of the joined table as SQL.
func column(name string) string {
	return "u." + quote(name)
}
