package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// The names of what is installed. All of it is in a schema of its own, or
// depends on it: dropping that schema removes everything.
const (
	triggerSchema   = "stale_session"
	deleteTrigger   = "stale_session_delete"
	truncateTrigger = "stale_session_truncate"
	updateTrigger   = "stale_session_update"
)

// UninstallSQL removes everything that InstallSQL creates.
const UninstallSQL = "drop schema if exists " + triggerSchema + " cascade;\n"

// notifySQL creates the function that the triggers call. It sends the ids of up
// to 1000 rows, 50 at a time, because a payload must be shorter than 8000
// bytes; for more, it sends that any may have changed.
const notifySQL = `create schema if not exists ` + triggerSchema + `;
comment on schema ` + triggerSchema + ` is 'Notifies caddy-stale-session of users that were deleted or changed. To remove it: drop schema ` + triggerSchema + ` cascade';
create or replace function ` + triggerSchema + `.notify() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $body$
declare
  payload text;
begin
  if tg_op = 'UPDATE' then
    payload := json_build_object('ids', json_build_array(to_jsonb(old) ->> tg_argv[0], to_jsonb(new) ->> tg_argv[0]))::text;
    perform pg_notify('` + channel + `', case when octet_length(payload) < 8000 then payload else '{}' end);
  elsif tg_op = 'TRUNCATE' then
    perform pg_notify('` + channel + `', '{}');
  elsif (select count(*) from (select from old_rows limit 1001) few) > 1000 then
    perform pg_notify('` + channel + `', '{}');
  else
    for payload in
      select json_build_object('ids', json_agg(id))::text
      from (select to_jsonb(o) ->> tg_argv[0] as id, (row_number() over () - 1) / 50 as part from old_rows o) rows
      group by part
    loop
      perform pg_notify('` + channel + `', case when octet_length(payload) < 8000 then payload else '{}' end);
    end loop;
  end if;
  return null;
end
$body$;
`

// InstallSQL connects, and returns the SQL that creates the triggers on the users
// table. It can be run repeatedly.
func (d *Directory) InstallSQL(ctx context.Context) (string, error) {
	var s *statement
	err := d.With(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var err error
		s, err = d.structure(ctx, conn)
		return err
	})
	if err != nil {
		return "", classify(err)
	}
	argument := "'" + strings.ReplaceAll(s.users.ID, "'", "''") + "'"
	call := " execute function " + triggerSchema + ".notify(" + argument + ");\n"
	var b strings.Builder
	b.WriteString(notifySQL)
	for _, trigger := range []struct{ name, event string }{
		{deleteTrigger, "delete on " + s.table + " referencing old table as old_rows for each statement"},
		{truncateTrigger, "truncate on " + s.table + " for each statement"},
		{updateTrigger, "update on " + s.table + " for each row when (" + s.users.changed() + ")"},
	} {
		fmt.Fprintf(&b, "drop trigger if exists %s on %s;\n", trigger.name, s.table)
		b.WriteString("create trigger " + trigger.name + " after " + trigger.event + call)
		// "always": also when rows are replicated or restored.
		fmt.Fprintf(&b, "alter table %s enable always trigger %s;\n", s.table, trigger.name)
	}
	return b.String(), nil
}

// structure reads the catalog for the users table and its columns, with those that
// other directories read. The role may not have to read any row.
func (d *Directory) structure(ctx context.Context, conn *pgx.Conn) (*statement, error) {
	s, err := d.ownStructure(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, other := range d.beside {
		if o, err := other.ownStructure(ctx, conn); err == nil && o.table == s.table { // its own install tells errors
			s.users.beside = append(s.users.beside, o.users.names()...)
		}
	}
	return s, nil
}

func (d *Directory) ownStructure(ctx context.Context, conn *pgx.Conn) (*statement, error) {
	d.lookups.discovering.Lock()
	defer d.lookups.discovering.Unlock()
	s, err := d.discover(ctx, conn, d.lookups)
	if err == nil && s.table == "" {
		err = schemaError("`query` names no table for triggers: name the table and its columns with `users`")
	}
	return s, err
}

// Beside makes what is installed serve other directories of the same database, too: a
// table has one set of triggers, for the columns that any of them reads.
func (d *Directory) Beside(others ...*Directory) {
	for _, other := range others {
		if other != d {
			d.beside = append(d.beside, other)
		}
	}
}

// changed returns the SQL condition that a column that a verdict depends on has
// changed.
func (u Users) changed() string {
	var terms []string
	for _, name := range u.names() { // as text, because some types have no equality
		terms = append(terms, fmt.Sprintf("old.%[1]s::text is distinct from new.%[1]s::text", quote(name)))
	}
	return strings.Join(terms, " or ")
}

// Run executes SQL of this package in one transaction.
func (d *Directory) Run(ctx context.Context, sql string) error {
	return classifyInstall(d.With(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			// Creating a trigger waits for all writers, and new ones queue
			// behind it.
			if _, err := tx.Exec(ctx, "set local lock_timeout = '5s'"); err != nil {
				return err
			}
			_, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll()
			return err
		})
	}))
}

// classifyInstall is classify, with what to do when installing.
func classifyInstall(err error) error {
	err = classify(err)
	if e, ok := err.(*directories.Error); ok { //nolint:errorlint // classify returns no other
		switch e.Code {
		case "42501":
			e.Text = "the role may not create triggers: connect as the owner of the users table, with CREATE on the database"
		case "42704":
			e.Text = "there is no such role to grant to"
		case "55P03":
			e.Text = "the users table was in use for five seconds: try again when there are fewer writes"
		case "42809":
			e.Text = "triggers need a table: name the one behind the view with `users`"
		}
	}
	return err
}
