package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// rival is a relation that may be the app's users table instead of the one that
// was found.
type rival struct {
	schema, name string
	idName       string
	id           idType
	equals       string
	readable     bool // the role may read the ids
	namesake     bool // the name is the same
}

func (r rival) String() string { return quote(r.schema, r.name) }

// rivalsSQL returns the relations that may be the app's users table instead of
// one: of the same name in any schema, or with a similar name if $3 is set. A view of the one is none, nor is a table that the one reads from.
const rivalsSQL = sourcesSQL + `, dependents(oid) as (
  select $1::bigint::oid
  union select r.ev_class from dependents d
    join pg_depend p on p.classid = 'pg_rewrite'::regclass and p.refclassid = 'pg_class'::regclass and p.refobjid = d.oid
    join pg_rewrite r on r.oid = p.objid
)
select n.nspname, c.relname, t.name, t.equals, c.relname = $2,
  has_schema_privilege(n.oid, 'usage') and has_column_privilege(c.oid, a.attnum, 'select')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attname = $4 and not a.attisdropped
cross join lateral (select a.atttypid) given(type) cross join lateral (` + typeSQL + `) t
where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
  and c.oid not in (select oid from sources) and c.oid not in (select oid from dependents)
  and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
  and (c.relname = $2 or $3::bool and c.relname ~* '(^|_)users?$')
order by 1, 2 limit 20`

// findRivals returns the rivals of a relation, those with a similar name too if alike
// is set.
func findRivals(ctx context.Context, conn *pgx.Conn, r relation, id string, alike bool) ([]rival, error) {
	rows, err := conn.Query(ctx, rivalsSQL, int64(r.oid), r.name, alike, id)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r rival, err error) {
		var typeName string
		err = row.Scan(&r.schema, &r.name, &typeName, &r.equals, &r.namesake, &r.readable)
		r.id, _ = idTypeOf(typeName)
		r.idName = id
		return r, err
	})
	return slices.DeleteFunc(all, func(r rival) bool { return r.id.kind == kindOther }), err // no session names such an id
}

// rivalDoubts returns for each subject that a rival has, or may have, why nothing
// in the table ends its session; nil if there is no rival. Once a user was found
// in the table, a rival of another name counts only if ids are numbers, which are
// those of others there. One of the same name may be a copy.
func (d *Directory) rivalDoubts(ctx context.Context, conn *pgx.Conn, s *statement, queries []directories.Query) ([]*doubt, error) {
	if len(s.relation.rivals) == 0 {
		return nil, nil
	}
	doubts := make([]*doubt, len(queries))
	for _, r := range s.relation.rivals {
		numbers := r.id.kind == kindInteger || r.id.kind == kindNumeric
		if d.found.has(s.table) && !numbers && !r.namesake && !d.config.AllRivals {
			continue
		}
		ids, possible, _ := r.id.prepare(queries)
		if len(ids) == 0 {
			continue
		}
		has := slices.Repeat([]bool{true}, len(ids))
		var why *doubt
		if r.readable {
			err := r.query(ctx, conn, ids, has)
			switch {
			case err == nil:
				why = s.rivalDoubt("the user is, or was, in "+r.String(), r)
			case sqlState(err) == "42501": // row-level security, or a right that was lost
				has = slices.Repeat([]bool{true}, len(ids))
			default:
				return nil, err
			}
		}
		if why == nil {
			why = s.rivalDoubt("there is also "+r.String()+", which the role may not read", r)
		}
		for i := range queries {
			if possible[i] {
				if has[0] && doubts[i] == nil {
					doubts[i] = why
				}
				has = has[1:]
			}
		}
	}
	return doubts, nil
}

func (s *statement) rivalDoubt(text string, r rival) *doubt {
	return &doubt{
		fmt.Sprintf("%s may not be the app's users table: %s", s.table, text),
		"name the app's with its schema: " + lines(s.relation, relation{schema: r.schema, name: r.name}),
	}
}

// query sets which ids a rival has. It fails if a policy hides rows.
func (r rival) query(ctx context.Context, conn *pgx.Conn, ids []string, has []bool) error {
	exists := func(same string) string { return fmt.Sprintf("exists (select from %s u where %s)", r, same) }
	sql := exists(r.id.same(quote(r.idName), r.equals))
	if r.id.kind == kindText && !r.id.ignoresCase() {
		sql = "case when strpos(k.subject, '@') > 0 then " + exists(sameEmail(quote(r.idName))) + " else " + sql + " end"
	}
	return secured(ctx, conn, "select "+sql+" from unnest($1::text[]) with ordinality k(subject, ord) order by k.ord", ids, func(rows *pgconn.ResultReader) error {
		for rows.NextRow() && len(has) > 0 {
			has[0], has = isTrue(rows.Values()[0]), has[1:]
		}
		_, err := rows.Close()
		return err
	})
}
