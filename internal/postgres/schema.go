package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// wellKnown are the users tables of Prisma and the Kysely adapter, of the pg,
// TypeORM, Hasura and Supabase adapters, of Drizzle and Better Auth, and of
// Lucia.
var wellKnown = []string{"User", "users", "user", "auth_user"}

// supabaseSchema is where the Supabase adapter has its tables.
const supabaseSchema = "next_auth"

// Columns that are used without being named, if their type is right.
var (
	wellKnownCreated  = []string{"createdAt", "created_at"}
	wellKnownValid    = []string{"sessionsValidAfter", "sessions_valid_after"}
	wellKnownDisabled = []string{
		"disabled", "banned", "deletedAt", "deleted_at", "disabledAt", "disabled_at", "bannedAt", "banned_at",
	}
)

// table is a table found in the catalogue.
type table struct {
	schema, name string
	oid          uint32
}

func (t table) String() string { return quote(t.schema, t.name) }

// discover finds the users table, or checks the user's query, and makes the
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
	t, err := d.findTable(ctx, conn)
	if err != nil {
		return nil, err
	}
	found, err := readColumns(ctx, conn, t)
	if err != nil {
		return nil, err
	}
	from = source{from: t.String(), table: t.String(), columns: found.columns, indexed: slices.Contains(found.indexed, users.ID)}
	made, err := newStatement(from, found.complete(users))
	if err != nil {
		return nil, err
	}
	if made.scans = !from.indexed; made.scans {
		d.log().Warn("the id column of the users table has no index: each lookup reads the whole table; add one")
	}
	return made, nil
}

func present(c columns, name string) string {
	if _, ok := c[name]; ok {
		return name
	}
	return ""
}

// findTable finds the table that the configuration names, or the one
// well-known table that there is.
func (d *Directory) findTable(ctx context.Context, conn *pgx.Conn) (table, error) {
	schema, names := d.lookups.address.schema, wellKnown
	if d.config.Users.Table != "" {
		parts, err := splitName(d.config.Users.Table)
		if err != nil {
			return table{}, err
		}
		names = parts[len(parts)-1:]
		if len(parts) == 2 {
			schema = parts[0]
		}
	}
	tables, err := queryTables(ctx, conn, schema, names, d.config.Users.Table == "")
	if err != nil {
		return table{}, err
	}
	switch {
	case len(tables) == 1:
		return tables[0], nil
	case len(tables) == 0 && d.config.Users.Table != "":
		return table{}, noTable(ctx, conn, d.config.Users.Table)
	case len(tables) == 0:
		return table{}, schemaError("no users table was found (looked for %q): a migration is running, or name it with `users TABLE`", names)
	}
	var lines []string
	for _, t := range tables {
		lines = append(lines, fmt.Sprintf("`users %s.%s`", t.schema, t.name))
	}
	return table{}, schemaError("several tables could be the users table: add one of these lines: %s", strings.Join(lines, ", "))
}

// queryTables returns the tables of some names, in one schema, or in those of
// the search path: there the first of a name hides the others.
func queryTables(ctx context.Context, conn *pgx.Conn, schema string, names []string, wellKnown bool) ([]table, error) {
	rows, err := conn.Query(ctx, `select distinct on (c.relname, n.nspname = $4) n.nspname, c.relname, c.oid::bigint
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relname = any($1::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'f')
  and case when $2 <> '' then n.nspname = $2
      else n.nspname = any(current_schemas(false)) or ($3::bool and n.nspname = $4 and c.relname = 'users') end
  and (not $3::bool or exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'id' and not a.attisdropped))
order by c.relname, n.nspname = $4, array_position(current_schemas(false), n.nspname)`, names, schema, wellKnown, supabaseSchema)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (table, error) {
		var t table
		var oid int64
		err := row.Scan(&t.schema, &t.name, &oid)
		t.oid = uint32(oid) //nolint:gosec // an oid
		return t, err
	})
}

// noTable says that the table of the configuration does not exist, and names
// those that are alike.
func noTable(ctx context.Context, conn *pgx.Conn, name string) error {
	rows, err := conn.Query(ctx, `select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema') order by 1, 2 limit 10000`)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t table, err error) {
		return t, row.Scan(&t.schema, &t.name)
	})
	if err != nil {
		return err
	}
	parts, _ := splitName(name)
	var near []string
	for _, t := range tables {
		if alike(t.name, parts[len(parts)-1]) {
			near = append(near, t.schema+"."+t.name)
		}
	}
	if len(near) > 0 {
		return schemaError("there is no table %s; upper and lower case differ, and there is %q", name, near)
	}
	return schemaError("there is no table %s: a migration is running, or `users` is wrong", name)
}

// layout is what the catalogue says of the columns of a table.
type layout struct {
	columns  columns
	indexed  []string // columns that begin an index
	readable []string // columns that the role may read
	utc      bool     // whether the session's time zone is UTC all year
}

// readColumns reads the layout of a table.
func readColumns(ctx context.Context, conn *pgx.Conn, t table) (layout, error) {
	l := layout{columns: make(columns)}
	rows, err := conn.Query(ctx, `select a.attname, format_type(coalesce(nullif(y.typbasetype, 0), a.atttypid), -1),
  exists (select from pg_index i where i.indrelid = a.attrelid and i.indkey[0] = a.attnum and i.indpred is null and i.indisvalid)
    or c.relkind in ('v', 'f'),
  has_column_privilege(a.attrelid, a.attnum, 'select'),
  extract(timezone from now()) = 0 and extract(timezone from now() + interval '182 days') = 0
from pg_attribute a join pg_type y on y.oid = a.atttypid join pg_class c on c.oid = a.attrelid
where a.attrelid = $1::bigint::oid and a.attnum > 0 and not a.attisdropped`, int64(t.oid))
	if err != nil {
		return layout{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, typeName string
		var indexed, readable bool
		if err := rows.Scan(&name, &typeName, &indexed, &readable, &l.utc); err != nil {
			return layout{}, err
		}
		l.columns[name] = typeName
		if indexed {
			l.indexed = append(l.indexed, name)
		}
		if readable {
			l.readable = append(l.readable, name)
		}
	}
	return l, rows.Err()
}

// complete fills in the well-known columns that the configuration does not
// name, where using them is safe.
func (l layout) complete(users Users) Users {
	id, _ := idTypeOf(l.columns[users.ID])
	if users.CreatedAt == "" && id.kind == kindInteger { // other ids are not used twice
		users.CreatedAt = l.first(wellKnownCreated, l.isInstant)
	}
	if users.ValidAfter == "" {
		users.ValidAfter = l.first(wellKnownValid, l.isInstant)
	}
	if len(users.Disabled) == 0 {
		for _, name := range wellKnownDisabled {
			if found := l.first([]string{name}, func(t string) bool { return t == "boolean" || isTime(t) }); found != "" {
				users.Disabled = append(users.Disabled, found)
			}
		}
	}
	return users
}

// first returns the first of some columns that the role may read and whose
// type is right.
func (l layout) first(names []string, right func(string) bool) string {
	for _, name := range names {
		if right(l.columns[name]) && slices.Contains(l.readable, name) {
			return name
		}
	}
	return ""
}

// isInstant tells whether a type surely is a point in time. A timestamp without
// a time zone is one where the server's is UTC; elsewhere a default of now()
// writes the local time, and a valid session would seem older than its account.
func (l layout) isInstant(t string) bool {
	return t == "timestamp with time zone" || t == "timestamp without time zone" && l.utc
}

// describe checks a query of the user's, and reads its columns.
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

// splitName splits the name of a table into its schema, if it has one, and
// itself. Dots within double quotes belong to a name.
func splitName(name string) ([]string, error) {
	var parts []string
	for rest := name; ; {
		var part string
		if strings.HasPrefix(rest, `"`) {
			end := strings.Index(rest[1:], `"`)
			if end < 0 {
				return nil, schemaError("the name of the table %s has a quote that does not end", name)
			}
			part, rest = rest[1:end+1], rest[end+2:]
		} else {
			end := strings.IndexAny(rest, `."`)
			if end < 0 {
				end = len(rest)
			}
			part, rest = rest[:end], rest[end:]
		}
		parts = append(parts, part)
		if part == "" || len(parts) > 2 || rest != "" && rest[0] != '.' {
			return nil, schemaError("%s is no name of a table: it must be like users, auth.users or \"my.schema\".\"User\"", name)
		}
		if rest == "" {
			return parts, nil
		}
		rest = rest[1:]
	}
}

// statementAge is how long a statement is used before the catalogue is asked
// again, in case a migration has changed what it says.
const statementAge = time.Minute
