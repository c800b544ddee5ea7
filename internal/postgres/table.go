package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// Table returns the users table, quoted for SQL, and the name of its id column.
// The table is empty if Config.Query replaces it.
func (d *Directory) Table(ctx context.Context) (table, id string, err error) {
	conn, err := d.lookups.acquire(ctx, d.pool)
	if err != nil {
		return "", "", classify(err)
	}
	defer conn.Release()
	s, err := d.ready(ctx, conn.Conn(), d.lookups, statementAge)
	if err != nil {
		return "", "", classify(err)
	}
	return s.table, s.users.ID, nil
}

// findTable finds the table that the configuration names, or the one
// well-known table that there is.
func (d *Directory) findTable(ctx context.Context, conn *pgx.Conn) (relation, error) {
	schema, names := d.lookups.address.schema, wellKnown
	if d.config.Users.Table != "" {
		parts, err := splitName(d.config.Users.Table)
		if err != nil {
			return relation{}, err
		}
		names = parts[len(parts)-1:]
		if len(parts) == 2 {
			schema = parts[0]
		}
	}
	tables, err := queryTables(ctx, conn, schema, names, d.config.Users.Table == "")
	if err != nil {
		return relation{}, err
	}
	switch {
	case len(tables) == 1:
		r := tables[0]
		if r.named = d.config.Users.Table != ""; schema != "" {
			return r, nil
		}
		return r, findRivals(ctx, conn, &r, cmp.Or(d.config.Users.ID, "id"))
	case len(tables) == 0:
		if err := unreadable(ctx, conn, names); err != nil {
			return relation{}, err
		}
	}
	switch {
	case len(tables) == 0 && d.config.Users.Table != "":
		return relation{}, noTable(ctx, conn, d.config.Users.Table)
	case len(tables) == 0:
		return relation{}, schemaError("no users table was found (looked for %q): a migration is running, or name it with `users TABLE`", names)
	}
	var lines []string
	for _, t := range tables {
		lines = append(lines, fmt.Sprintf("`users %s.%s`", t.schema, t.name))
	}
	return relation{}, schemaError("several tables could be the users table: add one of these lines: %s", strings.Join(lines, ", "))
}

// queryTables returns the tables of some names, in one schema, or in those of
// the search path: there the first of a name hides the others.
func queryTables(ctx context.Context, conn *pgx.Conn, schema string, names []string, wellKnown bool) ([]relation, error) {
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
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (relation, error) {
		var t relation
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
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t relation, err error) {
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

// unreadable is the error if there is a table of one of some names that the role
// may not reach: a reset has recreated its schema, say, and the grants are gone.
func unreadable(ctx context.Context, conn *pgx.Conn, names []string) error {
	var schema, name, role string
	err := conn.QueryRow(ctx, `select n.nspname, c.relname, current_user from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relname = any($1::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
  and not has_schema_privilege(n.oid, 'usage') order by n.nspname = 'public' desc, 1, 2 limit 1`, names).Scan(&schema, &name, &role)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return rightsError(schema, name, role)
}

// rightsError says which rights the role needs.
func rightsError(schema, name, role string) error {
	return &directories.Error{Class: directories.Rights, Code: "42501", Text: fmt.Sprintf(
		"the role may not read the users table: as its owner, run GRANT USAGE ON SCHEMA %s TO %s; GRANT SELECT ON %s TO %[2]s; if a reset has recreated it, ALTER DEFAULT PRIVILEGES keeps the grants (see docs/operations.md)",
		quote(schema), quote(role), quote(schema, name))}
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
