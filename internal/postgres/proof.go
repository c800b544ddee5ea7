package postgres

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// proofs records which relations are the app's users table: those in which the
// subject of a session was found.
type proofs struct {
	mu    sync.Mutex
	first string          // the relation that the name led to first
	found map[string]bool // relations with a subject, by name: a reset keeps the name
}

// resolved records that a name led to a relation.
func (p *proofs) resolved(relation string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == "" {
		p.first = relation
	}
}

// add records that a subject was found in a relation, and reports whether it is
// the first.
func (p *proofs) add(relation string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found[relation] {
		return false
	}
	if p.found == nil {
		p.found = make(map[string]bool)
	}
	p.found[relation] = true
	return true
}

// has reports whether a subject was found in a relation, and whether the name led
// to another relation first.
func (p *proofs) has(relation string) (has, moved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.found[relation], p.first != "" && p.first != relation
}

// doubt is why an absence proves nothing, and what to do about it.
type doubt struct{ text, remedy string }

func (d doubt) err() error {
	return &directories.Error{Class: directories.Unproven, Text: d.text + ": " + d.remedy}
}

// doubt returns why a subject may exist although a statement does not find it;
// nil for no reason.
func (d *Directory) doubt(s *statement) *doubt {
	r := s.relation
	found, moved := d.proofs.has(s.table)
	switch {
	case s.table == "": // a query is the operator's to answer for
		return nil
	case !r.named && !r.isTable():
		return &doubt{s.table + " is not a table, and may omit users", "name the table with " + lines("TABLE") + ", or name this one if it has all users"}
	case len(r.rivals) > 0 && !found:
		return &doubt{
			fmt.Sprintf("no user of a session was found in %s so far, and there is also %s", s.table, strings.Join(r.rivals, ", ")),
			"name the app's users table with its schema: " + lines(append([]string{r.schema + "." + r.name}, r.rivals...)...),
		}
	case moved && !found:
		return &doubt{
			"the users table was another one before, and no user of a session was found in " + s.table + " so far",
			"reload Caddy if the table was moved, or name it with its schema: " + lines(r.schema+"."+r.name),
		}
	}
	return nil
}

// securityDoubt returns the doubt that row-level security hides rows.
func securityDoubt(s *statement, role string) *doubt {
	of := s.named()
	return &doubt{
		"row-level security hides rows of " + of + " from the role " + role,
		fmt.Sprintf("ALTER ROLE %s BYPASSRLS, or CREATE POLICY stale_session ON %s FOR SELECT TO %s USING (true)", quote(role), of, quote(role)),
	}
}

// queryProven is query, and returns a doubt if a policy may hide rows from the
// role.
func (d *Directory) queryProven(ctx context.Context, conn *pgx.Conn, s *statement, ids []string, accounts []directories.Account) (*doubt, error) {
	err := s.query(ctx, s.unfiltered(conn), ids, accounts)
	if sqlState(err) != "42501" {
		return nil, err
	}
	// Either a policy applies, or the role may not read the table: then this
	// fails too.
	if err := s.query(ctx, s.plain(conn), ids, accounts); err != nil {
		return nil, err
	}
	var all *bool
	var role string
	if err := conn.QueryRow(ctx, policiesSQL, s.relation.schema, s.relation.name).Scan(&all, &role); err != nil {
		return nil, err
	}
	if all != nil && *all {
		return nil, nil //nolint:nilnil // no doubt
	}
	return securityDoubt(s, role), nil
}

// policiesSQL returns whether the policies of a table show all rows to the role:
// a permissive one is true, and none is restrictive; NULL if none applies.
const policiesSQL = `select bool_or(permissive = 'PERMISSIVE' and qual = 'true') and not bool_or(permissive = 'RESTRICTIVE'), current_user
from pg_policies where schemaname = $1 and tablename = $2 and cmd in ('ALL', 'SELECT')
  and (roles @> '{public}' or exists (select from unnest(roles) r where r <> 'public' and pg_has_role(current_user, r, 'usage')))`

// execution runs the statement once for some ids, and sets their accounts.
type execution func(ctx context.Context, ids []string, accounts []directories.Account) error

// plain runs the statement as it is.
func (s *statement) plain(conn *pgx.Conn) execution {
	return func(ctx context.Context, ids []string, accounts []directories.Account) error {
		rows := conn.PgConn().ExecParams(ctx, s.sql, [][]byte{textArray(ids)}, nil, binaryFormat, binaryFormat)
		return s.scan(conn.TypeMap(), rows, accounts)
	}
}

// unfiltered runs the statement that confirms, which fails if a policy would hide
// a row. It takes one round trip, and a transaction, because a pooler may change
// the server between two.
func (s *statement) unfiltered(conn *pgx.Conn) execution {
	return func(ctx context.Context, ids []string, accounts []directories.Account) error {
		var batch pgconn.Batch
		batch.ExecParams("begin transaction read only", nil, nil, nil, nil)
		batch.ExecParams("set local row_security = off", nil, nil, nil, nil)
		batch.ExecParams(s.confirmSQL, [][]byte{textArray(ids)}, nil, binaryFormat, binaryFormat)
		batch.ExecParams("rollback", nil, nil, nil, nil)
		results := conn.PgConn().ExecBatch(ctx, &batch)
		var err error
		for n := 0; results.NextResult(); n++ {
			if n == 2 {
				err = s.scan(conn.TypeMap(), results.ResultReader(), accounts)
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
}
