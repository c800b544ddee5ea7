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
	// disablesUntil are columns that disable up to a time, as that of Supabase does.
	disablesUntil = []string{"banned_until", "bannedUntil"}
)

// discover finds the users table, or checks Config.Query, and returns the
// statement that looks accounts up.
func (d *Directory) discover(ctx context.Context, conn *pgx.Conn, c *connector) (*statement, error) {
	var from source
	users := d.config.Users
	users.ID = cmp.Or(users.ID, "id")
	if d.config.Query != "" {
		var err error
		if from, err = describe(ctx, conn, d.config.Query, users.ID); err != nil {
			return nil, err
		}
		users.CreatedAt, users.ValidAfter = present(from.columns, "created_at"), present(from.columns, "valid_after")
		users.Disabled = nil
		if _, ok := from.columns["disabled"]; ok {
			users.Disabled = []string{"disabled"}
		}
		return newStatement(from, users)
	}
	r, err := d.findTable(ctx, conn, c)
	if err != nil {
		return nil, err
	}
	if err := describeRelation(ctx, conn, &r); err != nil {
		return nil, err
	}
	if !r.placed {
		if r.rivals, err = findRivals(ctx, conn, r, users.ID); err != nil {
			return nil, err
		}
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
	if !index.indexed {
		d.log().Warn("the id column of the users table has no index: each lookup reads the whole table; create one")
	}
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

// columnsSQL returns the columns of a relation: the type; whether the role may
// read it; and whether a timestamp without a time zone is certain to be in UTC.
// It is if its default says so; or if Prisma writes it, which does so in UTC, and
// no other time zone is set for the server, the database or a role that may
// insert rows, which a default of now() would use.
const columnsSQL = `select a.attname, t.name, has_column_privilege(a.attrelid, a.attnum, 'select'),
  coalesce(pg_get_expr(d.adbin, d.adrelid) ~* 'utc', false)
  or extract(timezone from now()) = 0 and extract(timezone from now() + interval '182 days') = 0
    and (select source not in ('client', 'user', 'database user', 'session') from pg_settings where name = 'TimeZone')
    and not exists (select from pg_db_role_setting r, unnest(r.setconfig) s
      where r.setdatabase in (0, (select oid from pg_database where datname = current_database()))
        and (r.setrole = 0 or c.relkind not in ('r', 'p') or has_table_privilege(r.setrole, c.oid, 'insert')) and s ~* '^timezone=' and s !~* '^timezone=(etc/)?(utc|gmt|uct|zulu|universal)$')
    and exists (select from pg_class p where p.relname = '_prisma_migrations' and p.relnamespace = c.relnamespace)
from pg_attribute a join pg_class c on c.oid = a.attrelid
cross join lateral (select a.atttypid) given(type) cross join lateral (` + typeSQL + `) t
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = $1::bigint::oid and a.attnum > 0 and not a.attisdropped`

// complete adds the well-known columns that the configuration does not name, if
// using them is safe.
func (l layout) complete(users Users) Users {
	if users.store != nil {
		return l.session(users)
	}
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
		if until := l.firstTime(disablesUntil); until != "" {
			users.Disabled = append(users.Disabled, until)
		}
	}
	l.limitBan(&users)
	return users
}

// session adds the columns of a table of sessions.
func (l layout) session(users Users) Users {
	if name := l.firstTime(users.store.Ends); name != "" {
		users.Disabled = []string{name}
	}
	users.CreatedAt = l.firstTime(users.store.Created)
	if name := l.first(users.store.User, func(t string) bool { return t != "" }); name != "" {
		users.Match = map[string]string{"user": name}
	}
	return users
}

// ban is the column with the time at which a ban ends; the zero value is none.
type ban struct {
	column string
	local  bool // the time may be of any time zone
}

// banned is the column that bans a user in Better Auth.
const banned = "banned"

// limitBan finds the column that ends a ban. If the role may not read it, nobody knows
// whether a ban still holds.
func (l layout) limitBan(users *Users) {
	if !slices.Contains(users.Disabled, banned) || l.columns[banned] != "boolean" {
		return
	}
	for _, name := range []string{"banExpires", "ban_expires"} {
		if !strings.HasPrefix(l.columns[name], "timestamp") {
			continue
		}
		if !slices.Contains(l.readable, name) {
			users.Disabled = slices.DeleteFunc(slices.Clone(users.Disabled), func(name string) bool { return name == banned })
			return
		}
		users.bannedUntil = ban{name, l.firstTime([]string{name}) == ""}
		return
	}
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
func describe(ctx context.Context, conn *pgx.Conn, query, id string) (source, error) {
	query = strings.TrimRight(strings.TrimSpace(query), ";")
	described, err := conn.PgConn().Prepare(ctx, "", query, nil)
	if err != nil {
		return source{}, err
	}
	if len(described.ParamOIDs) != 1 || described.ParamOIDs[0] != pgtype.TextArrayOID {
		return source{}, schemaError("`query` must have one parameter of type text[]: write $1::text[], and cast that to the type of the id column, as in `id = ANY($1::text[]::uuid[])`")
	}
	// Nothing is saved by an index on the id of rows that are already selected.
	from := source{from: "(\n" + query + "\n)", columns: make(columns), id: idIndex{lowered: true}}
	for _, field := range described.Fields {
		var name, equals string
		err := conn.QueryRow(ctx, "select t.name, t.equals from (select $1::bigint::oid) given(type) cross join lateral ("+typeSQL+") t", int64(field.DataTypeOID)).Scan(&name, &equals)
		if err != nil {
			return source{}, err
		}
		if from.columns[field.Name] = name; field.Name == id {
			from.id.equals = equals
		}
	}
	return from, nil
}

// statementAge is how long a statement is used before the catalog is read again,
// because a migration may have changed it.
const statementAge = time.Minute
