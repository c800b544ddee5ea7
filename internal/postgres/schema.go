package postgres

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// wellKnown lists the users tables of Prisma and the Kysely adapter; of the pg,
// TypeORM, Hasura and Supabase adapters; of Drizzle and Better Auth; of Lucia.
var wellKnown = []string{"User", "users", "user", "auth_user"}

// supabaseSchema is the schema of the Supabase adapter.
const supabaseSchema = "next_auth"

// Columns that are used by default, if their type is right.
var (
	wellKnownCreated  = []string{"createdAt", "created_at"}
	wellKnownValid    = []string{"sessionsValidAfter", "sessions_valid_after"}
	wellKnownDisabled = []string{
		"disabled", "banned", "deletedAt", "deleted_at", "disabledAt", "disabled_at", "bannedAt", "banned_at",
	}
)

// discover finds the users table, or checks Config.Query, and returns the
// statement that looks accounts up.
func (d *Directory) discover(ctx context.Context, conn *pgx.Conn) (*statement, error) {
	var from source
	users := d.config.Users
	users.ID = cmp.Or(users.ID, "id")
	if d.config.Query != "" {
		var err error
		if from, err = describe(ctx, conn, d.config.Query); err != nil {
			return nil, err
		}
		users.CreatedAt, users.ValidAfter = present(from.columns, "created_at"), present(from.columns, "valid_after")
		users.Disabled = nil
		if _, ok := from.columns["disabled"]; ok {
			users.Disabled = []string{"disabled"}
		}
		return newStatement(from, users)
	}
	r, err := d.findTable(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := describeRelation(ctx, conn, &r); err != nil {
		return nil, err
	}
	found, err := readColumns(ctx, conn, r)
	if err != nil {
		return nil, err
	}
	index, err := readIDIndex(ctx, conn, r, users.ID)
	if err != nil {
		return nil, err
	}
	from = source{from: r.String(), table: r.String(), columns: found.columns, relation: r, id: index}
	made, err := newStatement(from, found.complete(users))
	if err != nil {
		return nil, err
	}
	if made.scans = !index.indexed; made.scans {
		d.log().Warn("the id column of the users table has no index: each lookup reads the whole table; create one")
	}
	d.proofs.resolved(made.table)
	return made, nil
}

func present(c columns, name string) string {
	if _, ok := c[name]; ok {
		return name
	}
	return ""
}

// layout describes the columns of a table.
type layout struct {
	columns  columns
	readable []string // columns that the role may read
	utc      []string // columns without a time zone that are certain to be in UTC
}

// readColumns reads the layout of a table.
func readColumns(ctx context.Context, conn *pgx.Conn, r relation) (layout, error) {
	l := layout{columns: make(columns)}
	rows, err := conn.Query(ctx, columnsSQL, int64(r.oid))
	if err != nil {
		return layout{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, typeName string
		var readable, utc bool
		if err := rows.Scan(&name, &typeName, &readable, &utc); err != nil {
			return layout{}, err
		}
		l.columns[name] = typeName
		if readable {
			l.readable = append(l.readable, name)
		}
		if utc {
			l.utc = append(l.utc, name)
		}
	}
	return l, rows.Err()
}

// columnsSQL returns the columns of a relation: the type, without a length, or
// the base type of a domain; whether the role may read it; and whether a
// timestamp without a time zone is certain to be in UTC. It is if its default
// says so; or if Prisma writes it, which does so in UTC, and no other time zone
// is set for the server or a role, which a default of now() would use.
const columnsSQL = `with recursive base(name, oid, next) as (
  select a.attname, y.oid, y.typbasetype from pg_attribute a join pg_type y on y.oid = a.atttypid
  where a.attrelid = $1::bigint::oid and a.attnum > 0 and not a.attisdropped
  union all select b.name, y.oid, y.typbasetype from base b join pg_type y on y.oid = b.next
)
select a.attname, format_type(b.oid, -1), has_column_privilege(a.attrelid, a.attnum, 'select'),
  coalesce(pg_get_expr(d.adbin, d.adrelid) ~* 'utc', false)
  or extract(timezone from now()) = 0 and extract(timezone from now() + interval '182 days') = 0
    and not exists (select from pg_db_role_setting r, unnest(r.setconfig) s
      where r.setdatabase in (0, (select oid from pg_database where datname = current_database())) and s ~* '^timezone=' and s !~* '^timezone=(etc/)?(utc|gmt|uct|zulu|universal)$')
    and exists (select from pg_class p where p.relname = '_prisma_migrations' and p.relnamespace = c.relnamespace)
from pg_attribute a join pg_class c on c.oid = a.attrelid
join base b on b.name = a.attname and b.next = 0
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = $1::bigint::oid and a.attnum > 0 and not a.attisdropped`

// complete adds the well-known columns that the configuration does not name, if
// using them is safe.
func (l layout) complete(users Users) Users {
	id, _ := idTypeOf(l.columns[users.ID])
	if users.CreatedAt == "" && id.kind == kindInteger { // ids of other types are not reused
		users.CreatedAt = l.firstTime(wellKnownCreated)
	}
	if users.ValidAfter == "" {
		users.ValidAfter = l.firstTime(wellKnownValid)
	}
	if len(users.Disabled) == 0 {
		users.softDeletes = true
		for _, name := range wellKnownDisabled {
			if found := l.first([]string{name}, func(t string) bool { return t == "boolean" || isTime(t) }); found != "" {
				users.Disabled = append(users.Disabled, found)
			}
		}
	}
	return users
}

// first returns the first column that the role may read and whose type is right.
func (l layout) first(names []string, right func(string) bool) string {
	for _, name := range names {
		if right(l.columns[name]) && slices.Contains(l.readable, name) {
			return name
		}
	}
	return ""
}

// firstTime returns the first column that the role may read and that is certain
// to hold points in time. A timestamp without a time zone may be local time,
// and then a valid session would seem older than its account.
func (l layout) firstTime(names []string) string {
	for _, name := range names {
		t := l.columns[name]
		if slices.Contains(l.readable, name) && (t == "timestamp with time zone" || t == "timestamp without time zone" && slices.Contains(l.utc, name)) {
			return name
		}
	}
	return ""
}

// describe checks Config.Query, and returns its columns.
func describe(ctx context.Context, conn *pgx.Conn, query string) (source, error) {
	query = strings.TrimRight(strings.TrimSpace(query), ";")
	described, err := conn.PgConn().Prepare(ctx, "", query, nil)
	if err != nil {
		return source{}, err
	}
	if len(described.ParamOIDs) != 1 || described.ParamOIDs[0] != pgtype.TextArrayOID {
		return source{}, schemaError("`query` must have one parameter of type text[]: write $1::text[], and cast that to the type of the id column, as in `id = ANY($1::text[]::uuid[])`")
	}
	from := source{from: "(\n" + query + "\n)", columns: make(columns)}
	for _, field := range described.Fields {
		var typeName string
		err := conn.QueryRow(ctx, `select format_type(coalesce(nullif(typbasetype, 0), oid), -1) from pg_type where oid = $1::bigint::oid`,
			int64(field.DataTypeOID)).Scan(&typeName)
		if err != nil {
			return source{}, err
		}
		from.columns[field.Name] = typeName
	}
	return from, nil
}

// statementAge is how long a statement is used before the catalog is read again,
// because a migration may have changed it.
const statementAge = time.Minute

// readIDIndex reads how ids are compared. The operator is that of the index: if
// the schema of a type such as citext is not in the search path, "=" would
// silently be another operator.
func readIDIndex(ctx context.Context, conn *pgx.Conn, r relation, id string) (idIndex, error) {
	var index idIndex
	err := conn.QueryRow(ctx, idIndexSQL, int64(r.oid), id).Scan(&index.equals, &index.indexed, &index.unique, &index.lowerRow)
	return index, err
}

const idIndexSQL = `with recursive base(oid, next) as (
  select y.oid, y.typbasetype from pg_attribute a join pg_type y on y.oid = a.atttypid
  where a.attrelid = $1::bigint::oid and a.attname = $2 and not a.attisdropped
  union all select y.oid, y.typbasetype from base b join pg_type y on y.oid = b.next
), id as (
  select a.attnum, a.attcollation, c.relkind from pg_attribute a join pg_class c on c.oid = a.attrelid
  where a.attrelid = $1::bigint::oid and a.attname = $2 and not a.attisdropped
), indexes as (
  select i.* from pg_index i, id where i.indrelid = $1::bigint::oid and i.indkey[0] = id.attnum and i.indpred is null and i.indisvalid
)
select coalesce((
    select 'operator(' || quote_ident(n.nspname) || '.' || o.oprname || ')'
    from pg_opclass c join pg_am m on m.oid = c.opcmethod
    join pg_amop a on a.amopfamily = c.opcfamily and a.amoplefttype = c.opcintype and a.amoprighttype = c.opcintype
      and a.amopstrategy = case m.amname when 'btree' then 3 else 1 end
    join pg_operator o on o.oid = a.amopopr join pg_namespace n on n.oid = o.oprnamespace
    where m.amname in ('btree', 'hash') and (c.oid = (select indclass[0] from indexes order by indisunique desc limit 1)
      or c.opcdefault and c.opcintype = (select oid from base where next = 0))
    order by c.oid = (select indclass[0] from indexes order by indisunique desc limit 1) desc nulls last, m.amname limit 1), ''),
  exists (select from indexes) or coalesce((select relkind in ('v', 'f') from id), false),
  exists (select from indexes i, id where i.indisunique and i.indimmediate and i.indnkeyatts = 1 and i.indcollation[0] = id.attcollation)
    and not exists (select from pg_inherits h join pg_class c on c.oid = h.inhrelid where h.inhparent = $1::bigint::oid and not c.relispartition),
  exists (select from pg_index i where i.indrelid = $1::bigint::oid and i.indkey[0] = 0 and i.indpred is null and i.indisvalid
    and pg_get_indexdef(i.indexrelid, 1, true) ~ ('^lower\(\(?"?' || regexp_replace($2, '\W', '.', 'g') || '"?\)?(::text)?\)$'))`
