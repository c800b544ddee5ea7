package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// Script is SQL to run with Run.
type Script struct {
	// SQL holds the statements; empty if there is nothing to do.
	SQL string
	// Denied is why the current role may not run them, with what to run as whom;
	// nil if it may.
	Denied error
	// Note is what the operator must know about it; empty for nothing.
	Note string
}

// GrantSQL connects, and returns the script that lets roles read the columns of the
// users table that a verdict depends on, and, where it is found, those of the table of
// linked accounts that signals depend on. It can be run repeatedly. With surviveReset,
// the roles can also read what the owner of the users table creates later: the table and
// its schema, after a reset, and all others.
func (d *Directory) GrantSQL(ctx context.Context, roles []string, surviveReset bool) (Script, error) {
	var all []grant
	var script Script
	if len(roles) == 0 {
		return script, nil
	}
	err := d.With(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		s, err := d.structure(ctx, conn)
		if err != nil {
			return err
		}
		linked, note, err := d.linkedReads(ctx, conn, s)
		if err != nil {
			return err
		}
		script.Note += note
		for _, role := range roles {
			w := wanted{schema: s.relation.schema, name: s.relation.name, role: role, id: s.users.ID, columns: s.users.names(), byColumn: true}
			needed, err := readRights(ctx, conn, w)
			if err != nil {
				return err
			}
			if needed == nil {
				return schemaError("the table %s was dropped meanwhile: try again", s.table)
			}
			all = append(all, needed.grants...)
			for _, t := range linked {
				r, err := readRights(ctx, conn, wanted{schema: t.schema, name: t.name, role: role, columns: t.columns, byColumn: true})
				if err != nil {
					return err
				}
				if r == nil { // it was dropped meanwhile
					continue
				}
				for _, g := range r.grants {
					switch {
					case slices.Contains(all, g):
					case g.allowed:
						all = append(all, g)
					case g.lacking:
						script.Note += fmt.Sprintf("%s may not read %s, which `provider` needs: as %s run %s\n", r.role, t.what, g.owner, g.sql)
					}
				}
			}
			if !surviveReset {
				continue
			}
			later, err := readDefaults(ctx, conn, int64(needed.oid), role)
			if err != nil {
				return err
			}
			all = append(all, later...)
			script.Note += fmt.Sprintf("The price of --survive-reset: %s can read every table that %s creates in this database from now on.\n", needed.role, later[0].owner)
		}
		return nil
	})
	script.Denied = denied(all)
	for _, g := range all {
		if g.lacking || g.allowed { // what the role has already, somebody else may have granted
			script.SQL += g.sql + ";\n"
		}
	}
	return script, classifyInstall(err)
}

// linkedReads returns what has to be read to find users by the accounts that they have
// linked; nothing if there is no table of these, with a note if it was named.
func (d *Directory) linkedReads(ctx context.Context, conn *pgx.Conn, users *statement) (reads []searching, note string, err error) {
	l, err := findLinked(ctx, conn, users, d.config.Users.Accounts)
	switch {
	case err == nil:
		return l.search(users).reads, "", nil
	case classOf(err) != directories.Schema:
		return nil, "", err
	case d.config.Users.Accounts != "":
		note = err.Error() + "\n"
	}
	return nil, note, nil
}

// denied returns the error that the current role may not run some grants; nil if it
// may.
func denied(all []grant) error {
	var runs []string
	owner := ""
	for _, g := range all {
		switch {
		case !g.lacking || g.allowed:
		case g.owner == owner:
			runs[len(runs)-1] += "; " + g.sql
		default:
			owner = g.owner
			runs = append(runs, "as "+owner+" run "+g.sql)
		}
	}
	if len(runs) == 0 {
		return nil
	}
	return &directories.Error{Class: directories.Rights, Text: "the role may not grant this: " + strings.Join(runs, "; ") + "; then install again"}
}

// defaultsSQL returns the default privileges that keep the rights of the role $2 to
// the relation $1 through a reset, as grants: they are not bound to a schema,
// because that would be dropped with it.
const defaultsSQL = `select format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT %s TO %I', o.rolname, k.what, r.rolname), quote_ident(o.rolname),
  not exists (select from pg_default_acl d cross join aclexplode(d.defaclacl) a
    where d.defaclrole = o.oid and d.defaclnamespace = 0 and d.defaclobjtype::text = k.kind and a.grantee = r.oid and a.privilege_type = k.privilege),
  pg_has_role(o.oid, 'usage')
from pg_class c join pg_roles o on o.oid = c.relowner join pg_roles r on r.rolname = $2
cross join (values ('n', 'USAGE', 'USAGE ON SCHEMAS'), ('r', 'SELECT', 'SELECT ON TABLES')) k(kind, privilege, what)
where c.oid = $1::bigint::oid order by k.kind`

// readDefaults returns the default privileges of a role.
func readDefaults(ctx context.Context, conn *pgx.Conn, oid int64, role string) ([]grant, error) {
	rows, err := conn.Query(ctx, defaultsSQL, oid, role)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g grant, err error) {
		return g, row.Scan(&g.sql, &g.owner, &g.lacking, &g.allowed)
	})
	if err == nil && len(all) == 0 {
		err = errors.New("the table was dropped meanwhile")
	}
	return all, err
}

// revokeSQL returns, for each role that was given the table of revocations: what
// takes back its default privileges, who can do so, and whether the current role
// can; and what would take back its rights to the tables with triggers, and to those of
// which it was granted columns.
const revokeSQL = `with roles as (
  select distinct r.oid, r.rolname from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join aclexplode(c.relacl) a
  join pg_roles r on r.oid = a.grantee
  where n.nspname = '` + triggerSchema + `' and c.relname = 'revocations' and a.grantee <> c.relowner
)
select format('ALTER DEFAULT PRIVILEGES FOR ROLE %I REVOKE %s FROM %I', o.rolname, case d.defaclobjtype when 'n' then 'USAGE ON SCHEMAS' else 'SELECT ON TABLES' end, r.rolname),
  quote_ident(o.rolname), quote_ident(r.rolname), true, pg_has_role(o.oid, 'usage'), ''
from roles r join pg_default_acl d on d.defaclnamespace = 0 join pg_roles o on o.oid = d.defaclrole cross join aclexplode(d.defaclacl) a
where a.grantee = r.oid and (d.defaclobjtype::text, a.privilege_type) in (('n', 'USAGE'), ('r', 'SELECT'))
union all
select format('REVOKE SELECT ON %I.%I FROM %I', n.nspname, c.relname, r.rolname), quote_ident(pg_get_userbyid(c.relowner)), quote_ident(r.rolname), false, false,
  case when t.watched then 'the users table' else format('%I.%I', n.nspname, c.relname) end
from roles r cross join pg_class c join pg_namespace n on n.oid = c.relnamespace
cross join lateral (select exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = '` + deleteTrigger + `') as watched) t
where t.watched and has_any_column_privilege(r.oid, c.oid, 'select')
  or exists (select from pg_attribute a cross join aclexplode(a.attacl) g where a.attrelid = c.oid and g.grantee = r.oid and g.privilege_type = 'SELECT')
order by 4 desc, 1`

// RevokeSQL connects, and returns the script that takes the default privileges back
// from the roles that install has granted rights to. Those to the present tables
// stay, because Caddy may go on reading it without triggers.
func (d *Directory) RevokeSQL(ctx context.Context) (Script, error) {
	var script Script
	var notes []string
	err := d.With(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, revokeSQL)
		if err != nil {
			return err
		}
		var g grant
		var role, table string
		_, err = pgx.ForEachRow(rows, []any{&g.sql, &g.owner, &role, &g.lacking, &g.allowed, &table}, func() error {
			switch {
			case g.allowed:
				script.SQL += g.sql + ";\n"
			case g.lacking:
				notes = append(notes, fmt.Sprintf("%s can still read every table that %s will create. To take that back, as %[2]s: %s", role, g.owner, g.sql))
			default:
				notes = append(notes, fmt.Sprintf("%s can still read %s. To take that back, as %s: %s", role, table, g.owner, g.sql))
			}
			return nil
		})
		return err
	})
	for _, note := range slices.Compact(notes) {
		script.Note += note + "\n"
	}
	return script, classify(err)
}
