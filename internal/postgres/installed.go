package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
)

// triggerState says which triggers the users table has.
type triggerState string

const (
	triggersMissing triggerState = "missing"
	triggersWorking triggerState = "working"
	// triggersSilent: the settings of the server forbid notifications.
	triggersSilent triggerState = "silent"
	// triggersOutdated: they are of an earlier version, and can make statements of the
	// app fail. They work.
	triggersOutdated triggerState = "outdated"
)

// adviceOutdated is the advice about outdated triggers.
const adviceOutdated = "the triggers on the users table are of an earlier version, which can make statements of the app fail: run `caddy stale-session install` again"

// installed is what installedSQL returns.
type installed struct {
	triggers triggerState
	restore  string // SQL that creates the triggers again; empty if they are there, or that may not be done
}

// installedSQL is a part of epochSQL. Without a table that is known, those of any
// table count.
//
// The function that creates the triggers again must be SECURITY DEFINER: then it can
// do what its owner can, whoever that is, and nothing with the rights of the role that
// calls it. Where the table was recreated by somebody else, its owner has no right to
// create triggers there, and would only keep writers waiting.
const installedSQL = `coalesce((select case when p.proname = 'notify' then 'outdated' when current_setting('max_prepared_transactions') <> '0' or current_setting('track_counts') = 'off' then 'silent' else 'working' end
    from pg_trigger t join pg_proc p on p.oid = t.tgfoid where t.tgname = '` + deleteTrigger + `' and t.tgenabled <> 'D'
    and (t.tgrelid = c.oid or coalesce(c.relkind, 'v') not in ('r', 'p')) order by p.proname = 'notify' desc limit 1), 'missing'),
  coalesce((select format('select %I.%I()', s.nspname, p.proname) from pg_proc p join pg_namespace s on s.oid = p.pronamespace
    where s.nspname = '` + triggerSchema + `' and p.proname = ('restore ' || n.nspname || '.' || c.relname)::name and p.pronargs = 0 and p.prosecdef
    and has_schema_privilege(s.oid, 'usage') and has_function_privilege(p.oid, 'execute') and pg_has_role(p.proowner, c.relowner, 'usage') and c.relkind in ('r', 'p') and not pg_is_in_recovery()
    and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = '` + deleteTrigger + `')), '')`

const (
	// restoreAttempts is how often it is tried to create the triggers again, with
	// restorePause in between. It is tried again after the next commit.
	restoreAttempts = 10
	restorePause    = time.Second
)

// restoreTriggers creates the triggers again in the background, because the users
// table was recreated. The operator has asked for it: the role may call the function
// that does it.
func (d *Directory) restoreTriggers(sql string) {
	if !d.restoring.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer d.restoring.Store(false)
		var err error
		for range restoreAttempts {
			ctx, cancel := context.WithTimeout(d.running, deadline.Connect+deadline.Query)
			err = d.With(ctx, func(ctx context.Context, conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, sql)
				return err
			})
			cancel()
			if err == nil {
				d.log().Info("the users table was recreated; its triggers are installed again")
				return
			}
			select {
			case <-d.running.Done():
				return
			case <-time.After(restorePause): // a migration may be in progress
			}
		}
		d.log().Warn("the users table was recreated, and its triggers cannot be installed again; run `caddy stale-session install`", zap.Error(classifyInstall(err)))
	}()
}
