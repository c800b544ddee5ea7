package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
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

// findTable finds the table of the configuration, or the only well-known table.
func (d *Directory) findTable(ctx context.Context, conn *pgx.Conn, c *connector) (relation, error) {
	schema, names := cmp.Or(c.address.schema, d.lookups.address.schema), wellKnown
	named := d.config.Users.Table != ""
	if named {
		parts, err := splitName(d.config.Users.Table)
		if err != nil {
			return relation{}, err
		}
		names = parts[len(parts)-1:]
		if len(parts) == 2 {
			schema = parts[0]
		}
	}
	tables, newest, err := queryTables(ctx, conn, schema, names, d.config.Users.ID, !named)
	if err != nil {
		return relation{}, err
	}
	if p := c.pinned; p.name != "" && !slices.ContainsFunc(tables, p.same) { // it may be there, without the rights to it
		if err := c.lacks(ctx, conn, p.schema, p.name, d.users()); err != nil {
			return relation{}, err
		}
	}
	if err := d.passedOver(ctx, conn, c, names, schema, tables); err != nil {
		return relation{}, err
	}
	switch {
	case len(tables) == 1:
		r := tables[0]
		r.named, r.placed = named, schema != "" || c.address.setsPath()
		return r, c.pin(r, newest)
	case len(tables) == 0 && named:
		return relation{}, noTable(ctx, conn, names[0], d.config.Users.Table)
	case len(tables) == 0:
		return relation{}, noUsersTable(ctx, conn, schema, d.users().ID)
	}
	return relation{}, schemaError("several tables could be the users table: add one of these lines: %s", lines(tables...))
}

// passedOver returns an error if the app's table may be one that was not found,
// because the role may not use its schema.
func (d *Directory) passedOver(ctx context.Context, conn *pgx.Conn, c *connector, names []string, schema string, tables []relation) error {
	switch {
	case schema != "" || len(tables) > 1:
		return nil
	case len(tables) == 0:
		return d.unusable(ctx, conn, c, names, "")
	case !c.address.setsPath(): // others are rivals
		names = []string{tables[0].name}
	}
	return d.unusable(ctx, conn, c, names, tables[0].schema)
}

// pinned is the relation that a name led to.
type pinned struct {
	relation
	newest uint32 // the greatest oid of any relation then
}

// same reports whether a relation has the same name.
func (p pinned) same(r relation) bool { return r.schema == p.schema && r.name == p.name }

// pin returns an error if the name has led to another table before. While that is
// renamed for a moment, the name must not lead to the next one in the search path.
// Only the caller who discovers calls it.
func (c *connector) pin(r relation, newest uint32) error {
	before := c.pinned
	switch {
	case before.name == "", r.oid == before.oid, before.same(r):
	case r.name == before.name && r.position < before.position: // it hides the other from the app too
	case r.oid > before.newest: // it was created since, by a reset
	default:
		return schemaError("the users table was %s, which is missing: a migration is running; or it was moved: then name it with its schema, %s, or restart Caddy",
			before, lines(r))
	}
	c.pinned = pinned{r, newest}
	return nil
}

// queryTables returns the tables with some names in one schema, or else in the
// search path, where the first of a name hides the others; and the greatest oid of
// any relation. A well-known table counts if it has the column of the id.
func queryTables(ctx context.Context, conn *pgx.Conn, schema string, names []string, id string, wellKnown bool) (tables []relation, newest uint32, err error) {
	rows, err := conn.Query(ctx, `select distinct on (c.relname, n.nspname = $4) n.nspname, c.relname, c.oid,
  coalesce(array_position(current_schemas(false), n.nspname), 0), (select max(oid) from pg_class)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relname = any($1::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'f')
  and case when $2 <> '' then n.nspname = $2
      else n.nspname = any(current_schemas(false)) or ($3::bool and n.nspname = $4 and c.relname = 'users') end
  and (not $3::bool or exists (select from pg_attribute a where a.attrelid = c.oid and a.attname in ('id', $5) and not a.attisdropped))
order by c.relname, n.nspname = $4, array_position(current_schemas(false), n.nspname)`, names, schema, wellKnown, supabaseSchema, id)
	if err != nil {
		return nil, 0, err
	}
	tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r relation, err error) {
		return r, row.Scan(&r.schema, &r.name, &r.oid, &r.position, &newest)
	})
	return tables, newest, err
}
