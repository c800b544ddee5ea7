package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// readable is what a role could read of the users table.
type readable struct {
	oid     uint32
	columns []string // that were read; nil if it could read all
}

// rights are what a role needs to read a relation, and whether it lacks it.
type rights struct {
	oid  uint32
	role string // quoted, as all SQL here
	// all reports whether the role may read every column, also one to come.
	all    bool
	grants []grant
}

// grant is a statement that gives a right.
type grant struct {
	sql   string
	owner string // who can run it
	// lacking reports whether the role does not have the right.
	lacking bool
	// allowed reports whether the current role can run it.
	allowed bool
}

// rightsSQL returns what the role $3, or else the current one, needs to read the
// columns $4 of the relation $1.$2, of which $5 is the id; no row if there is no
// such relation. Missing columns are named with $6 besides, which it may have been
// able to read before; all of the table if it may not read any.
const rightsSQL = `with role as (select coalesce(nullif($3, '')::name, current_user) as name),
relation as (
  select c.*, n.nspname, n.nspowner, role.name as role from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join role
  where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p', 'v', 'm', 'f')
), columns as (
  select r.oid, bool_or(a.attname = any($4::text[]) and not may) as lacking, bool_or(may) as any,
    string_agg(quote_ident(a.attname), ', ' order by a.attnum) filter (where a.attname = any($4::text[] || $6::text[])) as named,
    string_agg(quote_ident(a.attname), ', ' order by a.attnum) filter (where a.attname = any($4::text[] || $6::text[]) and not may) as missing,
    bool_and(has_column_privilege(r.oid, a.attnum, 'select with grant option')) filter (where a.attname = any($4::text[]))
      and has_schema_privilege(r.relnamespace, 'usage') as allowed
  from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
  cross join lateral (select has_column_privilege(r.role, r.oid, a.attnum, 'select')) p(may)
  group by 1, r.relnamespace
), types as (
  select t.schema from relation r join pg_attribute a on a.attrelid = r.oid and a.attname = $5 and not a.attisdropped
  cross join lateral (select a.atttypid) given(type) cross join lateral (` + typeSQL + `) t
), grants as (
  select 1 as place, format('GRANT USAGE ON SCHEMA %I TO %I', r.nspname, r.role) as sql, r.nspowner as owner,
    not has_schema_privilege(r.role, r.nspname, 'usage') as lacking, has_schema_privilege(r.nspname, 'usage with grant option') as allowed
  from relation r
  union all
  select 2, format('GRANT SELECT%s ON %I.%I TO %I', case
      when $7::bool then ' (' || c.named || ')'
      when c.any or cardinality($6::text[]) > 0 then ' (' || c.missing || ')' else '' end, r.nspname, r.relname, r.role),
    r.relowner, c.lacking, c.allowed
  from relation r join columns c using (oid)
  union all
  select 3, format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, r.role), n.nspowner,
    not has_schema_privilege(r.role, n.nspname, 'usage'), has_schema_privilege(n.nspname, 'usage with grant option')
  from relation r cross join types join pg_namespace n on n.nspname = types.schema where n.nspname not in ('pg_catalog', r.nspname)
)
select r.oid, quote_ident(r.role), has_table_privilege(r.role, r.oid, 'select'), g.sql, quote_ident(pg_get_userbyid(g.owner)), coalesce(g.lacking, false), coalesce(g.allowed, false)
from relation r cross join grants g order by g.place`

// users returns the columns that the configuration names.
func (d *Directory) users() Users {
	users := d.config.Users
	users.ID = cmp.Or(users.ID, "id")
	return users
}

// wanted says what rightsSQL is to return.
type wanted struct {
	schema, name string
	role         string   // empty for the current one
	id           string   // the column
	columns      []string // to be read
	before       []string // columns that the role could read before, if not all
	byColumn     bool     // name all columns in the grants
}

// readRights reads what a role needs; nil if there is no such relation.
func readRights(ctx context.Context, conn *pgx.Conn, w wanted) (*rights, error) {
	rows, err := conn.Query(ctx, rightsSQL, w.schema, w.name, w.role, orEmpty(w.columns), w.id, orEmpty(w.before), w.byColumn)
	if err != nil {
		return nil, err
	}
	var all *rights
	var found rights
	var g grant
	_, err = pgx.ForEachRow(rows, []any{&found.oid, &found.role, &found.all, &g.sql, &g.owner, &g.lacking, &g.allowed}, func() error {
		found.grants = append(found.grants, g)
		all = &found
		return nil
	})
	return all, err
}

func orEmpty(texts []string) []string { return append([]string{}, texts...) }

// missing returns the grants of what the role lacks.
func (r *rights) missing() []string {
	var all []string
	for _, g := range r.grants {
		if g.lacking {
			all = append(all, g.sql)
		}
	}
	return all
}

// err returns the error that the role lacks rights; nil if it lacks none. Before is
// what it could read earlier; nil if that is not known.
func (r *rights) err(before *readable) error {
	grants := r.missing()
	if len(grants) == 0 {
		return nil
	}
	what := "the role may not read the users table"
	switch {
	case before == nil:
	case before.oid != r.oid:
		what = "the users table was recreated and the role lost its rights"
	default:
		what = "the role lost its rights to the users table"
	}
	return rightsError(what, grants, r.role)
}

func rightsError(what string, grants []string, role string) error {
	return &directories.Error{Class: directories.Rights, Code: "42501", Text: fmt.Sprintf(
		"%s: run %s, as its owner; to survive resets, `caddy stale-session install --grant %s --survive-reset`", what, strings.Join(grants, "; "), role)}
}

// lacks returns the error that the role of a connection lacks rights to columns of
// a relation; nil if it does not, or if there is no such relation.
func (c *connector) lacks(ctx context.Context, conn *pgx.Conn, schema, name string, users Users) error {
	before := c.readable.Load()
	w := wanted{schema: schema, name: name, id: users.ID, columns: users.names()}
	if before != nil {
		w.before = before.columns
	}
	r, err := readRights(ctx, conn, w)
	if r == nil || err != nil {
		return err
	}
	return r.err(before)
}

// mayRead returns an error if the role lacks rights to what a statement reads, and
// else keeps what it may read.
func (c *connector) mayRead(ctx context.Context, conn *pgx.Conn, s *statement) error {
	if s.table == "" { // its tables are not known
		return nil
	}
	columns := s.users.names()
	r, err := readRights(ctx, conn, wanted{schema: s.relation.schema, name: s.relation.name, id: s.users.ID, columns: columns})
	switch {
	case err != nil:
		return err
	case r == nil || len(r.missing()) > 0:
		return c.lacks(ctx, conn, s.relation.schema, s.relation.name, s.users)
	case r.all:
		columns = nil
	}
	c.readable.Store(&readable{r.oid, columns})
	return nil
}

// denied returns an error that says which rights the role lacks, if the catalog
// shows that, instead of another one of class Rights.
func (d *Directory) denied(ctx context.Context, conn *pgx.Conn, c *connector, s *statement, err error) error {
	var known *directories.Error
	hidden := d.config.Query != "" && sqlState(err) == "42P01" // a name that only an unusable schema has
	if errors.As(err, &known) || classOf(err) != directories.Rights && !hidden {
		return err
	}
	var exact error
	switch {
	case d.config.Query != "":
		exact = lacksForQuery(ctx, conn, d.config.Query)
	case s != nil:
		exact = c.lacks(ctx, conn, s.relation.schema, s.relation.name, s.users)
	}
	if errors.As(exact, &known) { // any other is a failure to read the catalog
		return exact
	}
	return err
}

// unusableSQL returns the first relation that has one of the names $1 and is in a
// schema that the role may not use. With $2, that schema is in the search path, and
// there before $2: the app would find it first.
const unusableSQL = pathSQL + `
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace left join path p on p.name = n.nspname
where c.relname = any($1::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
  and not has_schema_privilege(n.oid, 'usage') and ($2 = '' or p.position < (select position from path where name = $2))
order by p.position, n.nspname = 'public' desc, 1, 2 limit 1`

// pathSQL is a WITH query of the search path, with schemas that the role may not
// use: current_schemas omits those.
const pathSQL = `with path(name, position) as (
  select coalesce(nullif(trim(both '" ' from all_of[i]), '$user'), current_user::text), i
  from (select string_to_array(current_setting('search_path'), ',')) p(all_of), generate_subscripts(all_of, 1) i
)`

// unusable returns an error if the app's table may be one in a schema that the role
// may not use: a reset may have recreated it without the grants.
func (d *Directory) unusable(ctx context.Context, conn *pgx.Conn, c *connector, names []string, before string) error {
	var schema, name string
	err := conn.QueryRow(ctx, unusableSQL, names, before).Scan(&schema, &name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.lacks(ctx, conn, schema, name, d.users())
}

// queryRightsSQL returns the grants that the role lacks for relations whose names
// are among the words $1 of a query.
const queryRightsSQL = pathSQL + `
select quote_ident(current_user),
  case when not has_schema_privilege(n.oid, 'usage') then format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, current_user) end,
  case when not has_any_column_privilege(c.oid, 'select') then format('GRANT SELECT ON %I.%I TO %I', n.nspname, c.relname, current_user) end
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relname = any($1::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
  and (n.nspname = any($1::text[]) or n.nspname in (select name from path))
  and not (has_schema_privilege(n.oid, 'usage') and has_any_column_privilege(c.oid, 'select'))
order by n.nspname, c.relname limit 20`

// lacksForQuery returns the error that the role lacks rights to relations that a
// query names; nil if the catalog does not show it.
func lacksForQuery(ctx context.Context, conn *pgx.Conn, query string) error {
	words := strings.FieldsFunc(query, func(r rune) bool { return r != '_' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	words = append(words, strings.Fields(strings.ToLower(strings.Join(words, " ")))...)
	rows, err := conn.Query(ctx, queryRightsSQL, words)
	if err != nil {
		return err
	}
	var role string
	var usage, read *string
	var grants []string
	_, err = pgx.ForEachRow(rows, []any{&role, &usage, &read}, func() error {
		for _, sql := range []*string{usage, read} {
			if sql != nil && !slices.Contains(grants, *sql) {
				grants = append(grants, *sql)
			}
		}
		return nil
	})
	if err != nil || len(grants) == 0 {
		return err
	}
	return rightsError("the role may not read what `query` reads", grants, role)
}

// badTable returns the finding that users cannot be looked up. If the role lacks
// rights, nothing else is wrong.
func badTable(text string, err error) directories.Finding {
	if classOf(err) == directories.Rights {
		text = "the role lacks rights"
	}
	return bad(text, classify(err).Error())
}
