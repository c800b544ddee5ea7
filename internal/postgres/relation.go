package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// relation is a table or a view of the catalog.
type relation struct {
	schema, name string
	oid          uint32
	kind         string // pg_class.relkind
	// position is that of the schema in the search path; 0 outside.
	position int
	// named reports whether the operator has named it, and so is responsible for
	// what a view omits.
	named bool
	// placed reports whether the operator, or the address, has named its schema.
	placed bool
	// rivals are other relations that may be the app's users table; none if it is
	// placed.
	rivals []rival
	// lags is why its rows may be older than those that the app sees; empty if
	// they are not.
	lags string
	// foreign reports whether rows are on another server: the gate does not show
	// their changes.
	foreign bool
}

func (r relation) String() string { return quote(r.schema, r.name) }

// isTable reports whether it is a table. A view may omit rows.
func (r relation) isTable() bool { return r.kind == "r" || r.kind == "p" }

// readsSQL returns what a view, s, reads from, as far as the catalog has it.
const readsSQL = `select d.refobjid from pg_rewrite r
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
    where r.ev_class = s.oid`

// sourcesSQL is a WITH query of a relation and those that its rows are from: the
// tables of a view, the partitions of a table. tablesSQL is the same without
// partitions.
const (
	sourcesSQL = `with recursive sources(oid) as (
  select $1::bigint::oid
  union select next.oid from sources s, lateral (
    ` + readsSQL + `
    union all select inhrelid from pg_inherits where inhparent = s.oid
  ) next(oid)
)`
	tablesSQL = `with recursive sources(oid) as (
  select $1::bigint::oid
  union select next.oid from sources s, lateral (
    ` + readsSQL + `
  ) next(oid)
)`
)

// relationSQL returns the kind of a relation; and whether its rows are in a foreign
// table, a materialized view, or a table that logical replication fills.
const relationSQL = sourcesSQL + `
select (select relkind::text from pg_class where oid = $1::bigint::oid),
  exists (select from sources join pg_class c using (oid) where c.relkind = 'f'),
  exists (select from sources join pg_class c using (oid) where c.relkind = 'm'),
  case when has_table_privilege('pg_subscription_rel', 'select') then exists (select from sources join pg_subscription_rel s on s.srrelid = sources.oid) else false end`

// describeRelation sets the fields of a relation that do not follow from its
// name.
func describeRelation(ctx context.Context, conn *pgx.Conn, r *relation) error {
	var materialized, replicated bool
	err := conn.QueryRow(ctx, relationSQL, int64(r.oid)).Scan(&r.kind, &r.foreign, &materialized, &replicated)
	switch {
	case replicated:
		r.lags = "logical replication fills it"
	case materialized:
		r.lags = "it is, or reads, a materialized view"
	}
	return err
}
