package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// idIndex describes how ids are compared.
type idIndex struct {
	equals  string // the operator, with its schema
	indexed bool   // a lookup by the id uses an index
	unique  bool   // no two rows have the same id
	lowered bool   // a lookup by lower(id) uses an index, or needs none
}

// readIDIndex reads how the ids of a relation are compared.
func readIDIndex(ctx context.Context, conn *pgx.Conn, r relation, id string) (idIndex, error) {
	var index idIndex
	err := conn.QueryRow(ctx, idIndexSQL, int64(r.oid), id).Scan(&index.equals, &index.indexed, &index.unique, &index.lowered)
	if errors.Is(err, pgx.ErrNoRows) { // there is no such column, which is an error later on
		return index, nil
	}
	return index, err
}

// typeSQL returns what there is to know of the type whose oid is given.type: its
// name without a length, with its schema unless that is pg_catalog, or the name of
// the base type of a domain; its equality operator; and its schema. If the schema
// of a type such as citext is not in the search path, "=" would silently be the
// operator of another type.
const typeSQL = `with recursive base(oid, next) as (
  select y.oid, y.typbasetype from pg_type y where y.oid = given.type
  union all select y.oid, y.typbasetype from base b join pg_type y on y.oid = b.next
)
select case n.nspname when 'pg_catalog' then format_type(y.oid, -1) else quote_ident(n.nspname) || '.' || quote_ident(y.typname) end as name,
  coalesce((
    select 'operator(' || quote_ident(s.nspname) || '.' || o.oprname || ')'
    from pg_opclass c join pg_am m on m.oid = c.opcmethod
    join pg_amop a on a.amopfamily = c.opcfamily and a.amoplefttype = y.oid and a.amoprighttype = y.oid and a.amopstrategy = 3
    join pg_operator o on o.oid = a.amopopr join pg_namespace s on s.oid = o.oprnamespace
    where m.amname = 'btree' and c.opcdefault and c.opcintype = y.oid), 'operator(pg_catalog.=)') as equals,
  n.nspname as schema
from base join pg_type y on y.oid = base.oid join pg_namespace n on n.oid = y.typnamespace
where base.next = 0`

const idIndexSQL = `with id as (
  select a.attnum, a.attcollation, c.relkind, t.* from pg_attribute a join pg_class c on c.oid = a.attrelid
  cross join lateral (select a.atttypid) given(type) cross join lateral (` + typeSQL + `) t
  where a.attrelid = $1::bigint::oid and a.attname = $2 and not a.attisdropped
), indexes as (
  select i.* from pg_index i, id where i.indrelid = $1::bigint::oid and i.indkey[0] = id.attnum and i.indpred is null and i.indisvalid
)
select id.equals,
  exists (select from indexes) or id.relkind in ('v', 'f'),
  exists (select from indexes i where i.indisunique and i.indimmediate and i.indnkeyatts = 1 and i.indcollation[0] = id.attcollation)
    and not exists (select from pg_inherits h join pg_class c on c.oid = h.inhrelid where h.inhparent = $1::bigint::oid and not c.relispartition),
  exists (select from pg_index i where i.indrelid = $1::bigint::oid and i.indkey[0] = 0 and i.indpred is null and i.indisvalid
    and pg_get_indexdef(i.indexrelid, 1, true) ~ ('^lower\(\(?"?' || regexp_replace($2, '\W', '.', 'g') || '"?\)?(::text)?\)$'))
from id`
