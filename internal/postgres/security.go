package postgres

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// secured runs a query for some ids that fails if row-level security would hide a
// row from the role. It takes one round trip, and a transaction, because a pooler
// may change the server between two.
func secured(ctx context.Context, conn *pgx.Conn, sql string, ids []string, read func(*pgconn.ResultReader) error) error {
	var batch pgconn.Batch
	batch.ExecParams("begin transaction read only", nil, nil, nil, nil)
	batch.ExecParams("set local row_security = off", nil, nil, nil, nil)
	batch.ExecParams(sql, [][]byte{textArray(ids)}, nil, binaryFormat, binaryFormat)
	batch.ExecParams("rollback", nil, nil, nil, nil)
	results := conn.PgConn().ExecBatch(ctx, &batch)
	var err error
	for n := 0; results.NextResult(); n++ {
		if n == 2 {
			err = read(results.ResultReader())
		}
	}
	if failed := results.Close(); err == nil {
		err = failed
	}
	if err != nil && !conn.IsClosed() {
		_, _ = conn.PgConn().Exec(ctx, "rollback").ReadAll() // the failed transaction
	}
	return err
}

// queryProven looks ids up, and returns a doubt if a policy may hide rows from the
// role.
func (d *Directory) queryProven(ctx context.Context, conn *pgx.Conn, s *statement, ids []string, accounts []directories.Account) (*doubt, error) {
	err := s.query(ids, accounts, func(ids []string, accounts []directories.Account) error {
		return secured(ctx, conn, s.sqlFor(ids, true), ids, func(rows *pgconn.ResultReader) error {
			return s.scan(conn.TypeMap(), rows, accounts)
		})
	})
	if sqlState(err) != "42501" {
		return nil, err
	}
	// Either a policy applies, or the role may not read the table: then this fails too.
	// Whoever lets the role see all rows meanwhile must not make what it did not see a
	// proof, so the policies are read before and after: before, because roles change
	// freely, and after in the same transaction, which keeps the policies as they are.
	before, err := policyDoubt(ctx, conn, s)
	if err != nil {
		return nil, err
	}
	var after *doubt
	err = s.query(ids, accounts, func(ids []string, accounts []directories.Account) error {
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly}, func(pgx.Tx) error {
			if err := s.read(ctx, conn, ids, accounts, true); err != nil {
				return err
			}
			found, err := policyDoubt(ctx, conn, s)
			after = cmp.Or(after, found)
			return err
		})
	})
	return cmp.Or(before, after), err
}

// queryVisible looks ids up among the rows that the role can see.
func (d *Directory) queryVisible(ctx context.Context, conn *pgx.Conn, s *statement, ids []string, accounts []directories.Account) error {
	return s.query(ids, accounts, func(ids []string, accounts []directories.Account) error {
		return s.read(ctx, conn, ids, accounts, false)
	})
}

// read reads what the role can see of some ids.
func (s *statement) read(ctx context.Context, conn *pgx.Conn, ids []string, accounts []directories.Account, confirming bool) error {
	rows := conn.PgConn().ExecParams(ctx, s.sqlFor(ids, confirming), [][]byte{textArray(ids)}, nil, binaryFormat, binaryFormat)
	return s.scan(conn.TypeMap(), rows, accounts)
}

// policiesSQL returns the tables that a relation reads from, if their policies may
// hide rows from the role, or from the owner of a view that reads from them. The
// policies of a table show all rows if a permissive one is true, and none is
// restrictive.
const policiesSQL = tablesSQL + `, readers(role) as (
  select oid from pg_roles where rolname = current_user
  union select c.relowner from sources join pg_class c using (oid) where c.relkind = 'v'
)
select coalesce(array_agg(distinct quote_ident(n.nspname) || '.' || quote_ident(c.relname)), '{}'), current_user
from sources join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace
cross join readers r join pg_roles o on o.oid = r.role
where c.relrowsecurity and not o.rolbypassrls and not o.rolsuper
  and (c.relforcerowsecurity or not pg_has_role(r.role, c.relowner, 'usage'))
  and not coalesce((
    select bool_or(p.polpermissive and pg_get_expr(p.polqual, p.polrelid) = 'true') and not bool_or(not p.polpermissive)
    from pg_policy p where p.polrelid = c.oid and p.polcmd in ('*', 'r')
      and exists (select from unnest(p.polroles) x where x = 0 or pg_has_role(r.role, x, 'usage'))), false)`

// policyDoubt returns the doubt that row-level security hides rows; nil if its
// policies show all.
func policyDoubt(ctx context.Context, conn *pgx.Conn, s *statement) (*doubt, error) {
	var tables []string
	var role string
	if err := conn.QueryRow(ctx, policiesSQL, int64(s.relation.oid)).Scan(&tables, &role); err != nil {
		return nil, err
	}
	remedy := fmt.Sprintf("ALTER ROLE %s BYPASSRLS", quote(role))
	switch {
	case s.table == "": // its tables are not known
	case len(tables) == 0:
		return nil, nil //nolint:nilnil // no doubt
	default:
		for _, table := range tables {
			remedy += fmt.Sprintf(", or CREATE POLICY stale_session ON %s FOR SELECT TO %s USING (true)", table, quote(role))
		}
	}
	return &doubt{"row-level security hides rows of " + s.named() + " from the role " + role, remedy}, nil
}
