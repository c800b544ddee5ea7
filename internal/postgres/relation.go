package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// relation is a table or a view of the catalog.
type relation struct {
	schema, name string
	oid          uint32
	kind         string // pg_class.relkind
	// named reports whether the operator has named it, and so is responsible for
	// what a view omits.
	named bool
	// rivals are other relations that may be the app's users table; none if the
	// operator has named the schema too.
	rivals []string
	// replicated reports whether it is filled by logical replication, which may
	// lag.
	replicated bool
	// foreign reports whether rows are on another server: the gate does not show
	// their changes.
	foreign bool
}

func (r relation) String() string { return quote(r.schema, r.name) }

// relationSQL returns the other fields of a relation. For a view it also examines
// the relations that it reads from, as far as the catalog has them.
const relationSQL = `with recursive sources(oid) as (
  select $1::bigint::oid
  union select next.oid from sources s, lateral (
    select d.refobjid from pg_rewrite r
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
    where r.ev_class = s.oid
    union all select inhrelid from pg_inherits where inhparent = s.oid
  ) next(oid)
)
select (select relkind::text from pg_class where oid = $1::bigint::oid),
  exists (select from sources join pg_class c using (oid) where c.relkind = 'f'),
  case when has_table_privilege('pg_subscription_rel', 'select') then exists (select from sources join pg_subscription_rel s on s.srrelid = sources.oid) else false end`

// describeRelation sets the other fields of a relation.
func describeRelation(ctx context.Context, conn *pgx.Conn, r *relation) error {
	return conn.QueryRow(ctx, relationSQL, int64(r.oid)).Scan(&r.kind, &r.foreign, &r.replicated)
}

// rivalsSQL returns the relations that may be the app's users table instead of
// one: of the same name in any schema, or with a similar name if that was not
// named.
const rivalsSQL = `select n.nspname, c.relname
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid <> $1::bigint::oid and not c.relispartition
  and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
  and (c.relname = $2 or $3::bool and c.relname ~* '(^|_)users?$')
  and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = $4 and not a.attisdropped)
order by 1, 2 limit 20`

// findRivals sets the rivals of a relation.
func findRivals(ctx context.Context, conn *pgx.Conn, r *relation, id string) error {
	rows, err := conn.Query(ctx, rivalsSQL, int64(r.oid), r.name, !r.named, id)
	if err != nil {
		return err
	}
	r.rivals, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var schema, name string
		err := row.Scan(&schema, &name)
		return schema + "." + name, err
	})
	return err
}

// isTable reports whether it is a table. A view may omit rows.
func (r relation) isTable() bool { return r.kind == "r" || r.kind == "p" }

// lines returns the Caddyfile lines that name relations.
func lines(names ...string) string {
	for i, name := range names {
		names[i] = "`users " + name + "`"
	}
	return strings.Join(names, ", ")
}
