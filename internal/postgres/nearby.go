package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// maxNearby is how many tables an error names.
const maxNearby = 5

// nearby is a relation that may be meant.
type nearby struct {
	relation
	keys []string // columns that may be its id: the one meant, else those of its primary key
}

// nearbySQL returns the relations outside the catalog, the columns of their primary
// keys, and whether they have the column $1.
const nearbySQL = `select n.nspname, c.relname, exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = $1 and not a.attisdropped),
  array(select a.attname::text from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey) where i.indrelid = c.oid and i.indisprimary order by a.attnum)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
order by n.nspname = any(current_schemas(false)) desc, 1, 2 limit 10000`

// findNearby returns relations whose names are like one of some, and the column that
// would be their id.
func findNearby(ctx context.Context, conn *pgx.Conn, names []string, id string) ([]nearby, error) {
	rows, err := conn.Query(ctx, nearbySQL, id)
	if err != nil {
		return nil, err
	}
	var has bool
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n nearby, err error) {
		err = row.Scan(&n.schema, &n.name, &has, &n.keys)
		if has {
			n.keys = []string{id}
		}
		return n, err
	})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n nearby) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return alike(n.name, name) })
	})
	return all[:min(len(all), maxNearby)], nil
}

// suggest returns what came near, and the lines that name it.
func suggest(all []nearby, id string) string {
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = fmt.Sprintf("%s: add %s", n, lines(n.relation))
		switch {
		case slices.Contains(n.keys, id):
		case len(n.keys) == 1:
			texts[i] = fmt.Sprintf("%s, whose key is %s: add %s, with %s in its block", n, quote(n.keys[0]), lines(n.relation), line("id", n.keys[0]))
		default:
			texts[i] = fmt.Sprintf("%s, which has no column %s: if it has the users, add %s, with `id COLUMN` in its block", n, quote(id), lines(n.relation))
		}
	}
	return strings.Join(texts, "; and ")
}

// noUsersTable returns the error that there is no well-known table in a schema, or
// else in the search path: where it was looked for, and what came near.
func noUsersTable(ctx context.Context, conn *pgx.Conn, schema, id string) error {
	near, err := findNearby(ctx, conn, wellKnown, id)
	if err != nil {
		return err
	}
	where := "the schema " + quote(schema)
	if schema == "" {
		var path []string
		if err := conn.QueryRow(ctx, "select current_schemas(false)::text[]").Scan(&path); err != nil {
			return err
		}
		for i := range path {
			path[i] = quote(path[i])
		}
		where = "the search path, which is " + strings.Join(path, ", ")
		if len(path) == 0 {
			where = "the search path, of which no schema exists"
		}
	}
	what := fmt.Sprintf("no users table was found: there is none of %q with a column %s in %s", wellKnown, quote(id), where)
	if len(near) > 0 {
		return schemaError("%s; but there is %s", what, suggest(near, id))
	}
	return schemaError("%s: a migration is running, the database is not the app's, or add a line `users TABLE`", what)
}

// noTable returns the error that the table of the configuration does not exist, and
// what came near.
func noTable(ctx context.Context, conn *pgx.Conn, name, configured string) error {
	near, err := findNearby(ctx, conn, []string{name}, "")
	if err != nil {
		return err
	}
	if len(near) == 0 {
		return schemaError("there is no table %s: a migration is running, or `users` is wrong", configured)
	}
	tables := make([]relation, len(near))
	for i, n := range near {
		tables[i] = n.relation
	}
	return schemaError("there is no table %s, but there are others with similar names (letter case counts): add one of these lines: %s", configured, lines(tables...))
}
