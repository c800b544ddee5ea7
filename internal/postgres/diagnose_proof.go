package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// diagnoseProof looks for what keeps a row, or its absence, from ending a session.
func (d *Directory) diagnoseProof(ctx context.Context, conn *pgx.Conn, s *statement) []directories.Finding {
	var found []directories.Finding
	for _, diagnose := range []func(context.Context, *pgx.Conn, *statement) ([]directories.Finding, error){
		diagnoseDoubt, diagnosePolicies, diagnoseRivals, diagnoseIndexes, diagnoseZones, diagnoseConnections,
	} {
		more, err := diagnose(ctx, conn, s)
		if err != nil {
			return append(found, bad("cannot examine "+s.named(), classify(err).Error()))
		}
		found = append(found, more...)
	}
	return found
}

// finding returns the doubt as a finding.
func (d doubt) finding() directories.Finding { return bad("no session ends: "+d.text, d.remedy) }

// diagnoseDoubt checks that what is read is what the app reads.
func diagnoseDoubt(_ context.Context, _ *pgx.Conn, s *statement) ([]directories.Finding, error) {
	if why := s.doubt(); why != nil {
		return []directories.Finding{why.finding()}, nil
	}
	return nil, nil
}

// diagnosePolicies checks that row-level security hides no row from the role.
func diagnosePolicies(ctx context.Context, conn *pgx.Conn, s *statement) ([]directories.Finding, error) {
	err := secured(ctx, conn, s.sql, nil, func(rows *pgconn.ResultReader) error {
		_, err := rows.Close()
		return err
	})
	if sqlState(err) != "42501" {
		return nil, err
	}
	why, err := policyDoubt(ctx, conn, s)
	if err != nil || why == nil {
		return nil, err
	}
	return []directories.Finding{bad("no session ends because its user is missing: "+why.text, why.remedy)}, nil
}

// referencesSQL returns how many foreign keys refer to a relation: most refer to
// the users table of the app.
const referencesSQL = `select count(*) from pg_constraint where contype = 'f' and confrelid = to_regclass($1)`

// diagnoseRivals names the tables that may be the app's users table instead.
func diagnoseRivals(ctx context.Context, conn *pgx.Conn, s *statement) ([]directories.Finding, error) {
	if len(s.relation.rivals) == 0 {
		return nil, nil
	}
	references := func(name string) (string, error) {
		var count int
		err := conn.QueryRow(ctx, referencesSQL, name).Scan(&count)
		return fmt.Sprintf("%s (foreign keys to it: %d)", name, count), err
	}
	this, err := references(s.table)
	if err != nil {
		return nil, err
	}
	tables := []relation{s.relation}
	var others []string
	for _, r := range s.relation.rivals {
		tables = append(tables, relation{schema: r.schema, name: r.name})
		other := r.String()
		if r.readable { // to_regclass fails without a right to the schema
			if other, err = references(other); err != nil {
				return nil, err
			}
		}
		others = append(others, other)
	}
	return []directories.Finding{note(
		fmt.Sprintf("%s may not be the app's users table: there is also %s. A user who is, or may be, there keeps the session", this, strings.Join(others, ", ")),
		"add one of these lines: "+lines(tables...))}, nil
}

// diagnoseIndexes checks that ids are unique, and that email addresses are found in
// any case.
func diagnoseIndexes(ctx context.Context, conn *pgx.Conn, s *statement) ([]directories.Finding, error) {
	if s.table == "" {
		return nil, nil
	}
	var found []directories.Finding
	id := quote(s.users.ID)
	if !s.index.unique && s.relation.isTable() {
		found = append(found, note(fmt.Sprintf("nothing keeps two rows of %s from having the same %s: a session is live if it is by any of them", s.table, id),
			fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s), or name the column that is unique, with `id COLUMN` in the block of `users`", s.table, id)))
	}
	if s.anyCaseSQL == "" || s.index.lowered || !s.relation.isTable() {
		return found, nil
	}
	var addresses bool
	err := conn.QueryRow(ctx, fmt.Sprintf("select coalesce(bool_or(strpos(%[1]s::text, '@') > 0), false) from (select %[1]s from %[2]s limit 100) sample", id, s.table)).Scan(&addresses)
	if err == nil && addresses {
		found = append(found, note(fmt.Sprintf("%s has email addresses, and no index ignores their case: before a session ends, the whole table is read", id),
			fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (lower(%s))", s.table, id)))
	}
	return found, err
}

// diagnoseZones names times that prove nothing, because their time zone is not
// known.
func diagnoseZones(ctx context.Context, conn *pgx.Conn, s *statement) ([]directories.Finding, error) {
	if s.table == "" {
		return nil, nil
	}
	l, err := readColumns(ctx, conn, s.relation)
	if err != nil {
		return nil, err
	}
	var found []directories.Finding
	zoned := func(name string) string {
		return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE timestamptz USING %[2]s AT TIME ZONE ZONE, with the time zone that the app writes", s.table, quote(name))
	}
	check := func(option, used string, wellKnown []string) {
		for _, name := range append([]string{used}, wellKnown...) {
			if t := l.columns[name]; t != "timestamp without time zone" && t != "date" || slices.Contains(l.utc, name) {
				continue
			}
			if name == used {
				found = append(found, note(fmt.Sprintf("%s has no time zone: it is read as UTC, as `%s` says", quote(name), option), "if the app writes local time: "+zoned(name)))
			} else if used == "" {
				found = append(found, note(fmt.Sprintf("%s has no time zone, and nothing proves that it is UTC: no session is compared with it", quote(name)),
					fmt.Sprintf("%s; or, if the app writes UTC, add %s to the block of `users`", zoned(name), line(option, name))))
			}
		}
	}
	created := wellKnownCreated
	if s.id.kind != kindInteger {
		created = nil // it would not be used
	}
	check("created_at", s.users.CreatedAt, created)
	check("valid_after", s.users.ValidAfter, wellKnownValid)
	return found, nil
}

// neededConnections is how many connections one Caddy needs: two for lookups, one
// to watch for changes.
const neededConnections = 3

// diagnoseConnections checks that the role may open enough connections.
func diagnoseConnections(ctx context.Context, conn *pgx.Conn, _ *statement) ([]directories.Finding, error) {
	var limit int
	var role string
	err := conn.QueryRow(ctx, "select rolconnlimit, rolname from pg_roles where rolname = current_user").Scan(&limit, &role)
	if err != nil || limit < 0 || limit >= neededConnections {
		return nil, err
	}
	return []directories.Finding{note(fmt.Sprintf("the role may open %d connections, and each Caddy needs %d", limit, neededConnections),
		fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT -1", quote(role)))}, nil
}
