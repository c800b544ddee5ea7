package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// triggersOther is a triggerState that only Diagnose looks for: they look at other
// columns than a verdict.
const triggersOther triggerState = "other"

// sourceSQL returns the body of the function that the triggers on a table call, and
// whether the table has all columns that it compares; no row if there are none.
const sourceSQL = `select p.prosrc, not exists (select from regexp_matches(p.prosrc, 'old\.("(?:[^"]|"")+")::text is distinct', 'g') m(c)
    where not exists (select from pg_attribute a where a.attrelid = t.tgrelid and not a.attisdropped and m.c[1] = '"' || replace(a.attname, '"', '""') || '"'))
from pg_trigger t join pg_proc p on p.oid = t.tgfoid where t.tgname = '` + updateTrigger + `' and t.tgrelid = $1::bigint::oid`

// readTriggers reads which triggers the users table has.
func readTriggers(ctx context.Context, conn *pgx.Conn, s *statement) (triggerState, error) {
	var epoch, catalog string
	var found installed
	err := conn.QueryRow(ctx, epochSQL, s.table, "").Scan(&epoch, &found.triggers, &found.restore, &catalog)
	if err != nil || found.triggers != triggersWorking || !s.relation.isTable() {
		return found.triggers, err
	}
	var source string
	var columns bool
	if err := conn.QueryRow(ctx, sourceSQL, int64(s.relation.oid)).Scan(&source, &columns); errors.Is(err, pgx.ErrNoRows) {
		return triggersOther, nil
	} else if err != nil {
		return "", err
	}
	for _, term := range s.triggers().changed() {
		columns = columns && strings.Contains(source, term)
	}
	if !columns {
		return triggersOther, nil
	}
	return triggersWorking, nil
}

// finding returns what to say about the triggers, where notifications arrive.
func (t triggerState) finding() directories.Finding {
	switch t {
	case triggersWorking:
		return good("change notifications work")
	case triggersSilent:
		return note("the triggers on the users table send nothing, because of a setting of the server: max_prepared_transactions is not 0, or track_counts is off: changes are noticed within the poll interval", "if no app uses PREPARE TRANSACTION, set max_prepared_transactions to 0; set track_counts to on")
	case triggersOutdated:
		return bad("the triggers on the users table are of an earlier version, which can make statements of the app fail", "run `caddy stale-session install` again")
	case triggersOther:
		return note("the triggers on the users table do not look at the columns that a verdict depends on: some changes are noticed within the poll interval", "run `caddy stale-session install` again, with the same configuration")
	}
	return note("the users table has no triggers: changes are noticed within the poll interval", "run `caddy stale-session install` to notice them within milliseconds")
}
