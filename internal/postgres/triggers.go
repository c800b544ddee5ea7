package postgres

import (
	"fmt"
	"strings"
)

// The names of what is installed. All of it is in a schema of its own, or
// depends on it: dropping that schema removes everything.
const (
	triggerSchema   = "stale_session"
	deleteTrigger   = "stale_session_delete"
	truncateTrigger = "stale_session_truncate"
	updateTrigger   = "stale_session_update"
)

// UninstallSQL removes everything that InstallSQL and RestoreSQL create.
const UninstallSQL = "drop schema if exists " + triggerSchema + " cascade;\n"

// schemaSQL creates the schema.
const schemaSQL = `create schema if not exists ` + triggerSchema + `;
comment on schema ` + triggerSchema + ` is 'Notifies caddy-stale-session of users that were deleted or changed. To remove it: drop schema ` + triggerSchema + ` cascade';
`

// retireSQL removes the triggers of an earlier version from every table: they could
// make statements of the app fail.
const retireSQL = `drop function if exists ` + triggerSchema + `.notify() cascade;
`

const (
	// maxNamed is how many rows of a table the triggers look at, of those that a
	// session of the server changes about at the same time.
	maxNamed = 1000
	// quietSQL is a condition that a notification can neither fail nor wait. Only COMMIT
	// would find that, where no trigger can catch an error: PREPARE TRANSACTION refuses a
	// transaction that notifies; COMMIT waits for another one that notifies, which two
	// timeouts end (statement_timeout does not); and the queue can be full, because a
	// listener sleeps in a transaction. The advisory lock, of an arbitrary number, keeps
	// all but one of our notifications from waiting for each other.
	quietSQL = `current_setting('max_prepared_transactions') = '0' and current_setting('lock_timeout') = '0'
       and coalesce(current_setting('transaction_timeout', true), '0') = '0' and pg_try_advisory_xact_lock(8104412906312284217)
       and pg_notification_queue_usage() < 0.1`
)

// triggers are those of one users table.
type triggers struct {
	schema, name string
	users        Users
}

// table returns its name as SQL.
func (t triggers) table() string { return quote(t.schema, t.name) }

// changedFunction and restoreFunction return the names of its functions as SQL.
func (t triggers) changedFunction() string {
	return quote(triggerSchema, "changed "+t.schema+"."+t.name) + "()"
}

func (t triggers) restoreFunction() string {
	return quote(triggerSchema, "restore "+t.schema+"."+t.name) + "()"
}

// changed returns the SQL conditions that a column that a verdict depends on has
// changed.
func (t triggers) changed() (terms []string) {
	for _, name := range t.users.names() { // as text, because some types have no equality
		terms = append(terms, fmt.Sprintf("old.%[1]s::text is distinct from new.%[1]s::text", quote(name)))
	}
	return terms
}

// body returns the body of the function that the triggers call. Nothing it does can
// make a statement of the app fail: it reads the columns by their names when it runs,
// and ignores every error, also that a column is no longer there.
//
// After more than maxNamed deletions it notifies once that any user may be gone.
// After as many updates it is silent: the next poll notices them.
func (t triggers) body() string {
	id := quote(t.users.ID)
	return `
declare
  ids text[];
  payload text := '{}';
begin
  begin
    if tg_op = 'DELETE' and (tg_level = 'STATEMENT') <> (pg_stat_get_xact_tuples_deleted(tg_relid) > ` + fmt.Sprint(maxNamed) + `) then
      return null;
    elsif tg_op = 'UPDATE' then
      if not (` + strings.Join(t.changed(), " or ") + `) then
        return null;
      end if;
      ids := array[old.` + id + `::text, new.` + id + `::text];
    elsif tg_level = 'ROW' then
      ids := array[old.` + id + `::text];
    end if;
    if ` + quietSQL + ` then
      if ids is not null then
        payload := json_build_object('ids', ids)::text;
      end if;
      perform pg_notify('` + channel + `', case when octet_length(payload) < 8000 then payload else '{}' end);
    end if;
  exception when others then
    null;
  end;
  return null;
end
`
}

// foreign returns the SQL condition that the function exists, and that its owner has
// no right to create triggers on the table. Somebody who may create schemas could
// have put it there, and change what the app runs.
func (t triggers) foreign() string {
	return "exists (select from pg_catalog.pg_proc p join pg_catalog.pg_class c on c.oid = " + literal(t.table()) + "::regclass\n" +
		"      where p.oid = pg_catalog.to_regprocedure(" + literal(t.changedFunction()) + ") and not pg_catalog.pg_has_role(p.proowner, c.relowner, 'usage'))"
}

// functionSQL returns the SQL that creates that function, for the current role.
func (t triggers) functionSQL() string {
	guard := "\nbegin\n  if " + t.foreign() + " then\n    drop function " + t.changedFunction() + " cascade;\n  end if;\nend\n"
	return "do " + dollars(guard) + ";\ncreate or replace function " + t.changedFunction() + " returns trigger\n" +
		"language plpgsql set search_path = pg_catalog, pg_temp as " + dollars(t.body()) + ";\n"
}

// triggersSQL returns the body of a block that creates the triggers, and needs no
// lock if they are there.
//
// A trigger for each row gives the server something to remember for each row that a
// statement changes: so its condition ends after maxNamed rows. It refers to no
// column, because a column that a trigger refers to can be neither dropped nor given
// another type. Where the server counts no rows, the condition never holds.
func (t triggers) triggersSQL() string {
	table := t.table()
	var b strings.Builder
	fmt.Fprintf(&b, `
begin
  if %s then
    raise insufficient_privilege;
  end if;
  if (select count(*) from pg_catalog.pg_trigger where tgrelid = %s::regclass and tgname in ('%s', '%s', '%s')
      and tgenabled = 'A' and tgfoid = %s::regprocedure) = 3 then
    return;
  end if;
`, t.foreign(), literal(table), deleteTrigger, updateTrigger, truncateTrigger, literal(t.changedFunction()))
	within := func(rows string) string {
		return fmt.Sprintf("for each row when (pg_catalog.pg_stat_get_xact_tuples_%s(old.tableoid) between 1 and %d)", rows, maxNamed)
	}
	for _, trigger := range []struct{ name, event, calls string }{
		{deleteTrigger, "delete", within("deleted")},
		{updateTrigger, "update", within("updated")},
		{truncateTrigger, "truncate or delete", "for each statement"},
	} {
		fmt.Fprintf(&b, "  drop trigger if exists %s on %s;\n", trigger.name, table)
		fmt.Fprintf(&b, "  create trigger %s after %s on %s %s execute function %s;\n", trigger.name, trigger.event, table, trigger.calls, t.changedFunction())
		// "always": also when rows are replicated or restored.
		fmt.Fprintf(&b, "  alter table %s enable always trigger %s;\n", table, trigger.name)
	}
	return b.String() + "end\n"
}

// installSQL returns the SQL that creates the function and the triggers.
func (t triggers) installSQL() string {
	return schemaSQL + t.functionSQL() + "do " + dollars(t.triggersSQL()) + ";\n" + retireSQL
}

// restoreSQL returns the SQL that creates a function that creates the triggers again,
// and that roles may call. It does what its owner may do, and nothing else: so the
// roles need no right to the table.
func (t triggers) restoreSQL(roles []string) string {
	name := t.restoreFunction()
	var b strings.Builder
	b.WriteString("create or replace function " + name + " returns void\n" +
		"language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '" + lockTimeout + "' as " + dollars(t.triggersSQL()) + ";\n" +
		"revoke all on function " + name + " from public;\n")
	for _, role := range roles {
		fmt.Fprintf(&b, "grant usage on schema %s to %[3]s;\ngrant execute on function %[2]s to %[3]s;\n", triggerSchema, name, quote(role))
	}
	return b.String()
}

// dollars returns a text between dollar quotes that it does not contain.
func dollars(text string) string {
	tag := "$body$"
	for strings.Contains(text, tag) {
		tag = tag[:len(tag)-1] + "_$"
	}
	return tag + text + tag
}

// literal returns a text as a string of SQL.
func literal(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) { // whatever standard_conforming_strings is
		quoted = " e" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
