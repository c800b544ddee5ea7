package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// flags are those of install and uninstall.
type flags struct {
	database, config, adapter, users string
	grant                            []string
	print                            bool
}

func (f *flags) add(cmd *cobra.Command) {
	cmd.Args = cobra.NoArgs
	cmd.Flags().StringVar(&f.database, "database", "", "The address of the database; placeholders such as {env.DATABASE_URL} work (default {env.DATABASE_URL})")
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "A Caddy configuration whose databases and users tables to take")
	cmd.Flags().StringVarP(&f.adapter, "adapter", "a", "", "The adapter of the configuration")
	cmd.Flags().BoolVar(&f.print, "print", false, "Print the SQL, for a migration of your own, and do nothing")
	cmd.MarkFlagsMutuallyExclusive("config", "database")
}

func (c commands) install() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "install [--database <dsn> [--users <table>] | --config <path> [--adapter <name>]] [--grant <role>] [--print]",
		Short: "Installs triggers that notify changes of users, and a table of revocations",
		Long: `
Installs three triggers on the users table, and the function that they call in
a schema of its own, "stale_session". They notify the channel "stale_session"
when users are deleted, when the table is truncated, and when a column that a
verdict depends on (the id, and the configured or well-known created_at,
valid_after, disabled and match columns) is changed. Run it again after the
table was dropped and created anew, and after the configuration has changed;
running it twice does no harm.

The schema also gets the table "revocations", through which all nodes of a fleet
share the sessions that were ended by hand or by an identity provider. The role
that Caddy connects as needs --grant, unless it is the owner.

Without --config the columns are those that the handler finds by itself.

The role needs to own the users table, or to have TRIGGER on it, and CREATE on
the database. The roles that write to the table need nothing. For a moment, the
table is locked against writers.

What it costs writers: a DELETE statement one notification for each 50 rows,
above 1000 rows a single one; an UPDATE the comparison of those columns, and a
notification when one has changed; an INSERT nothing. Measured, that is about
40 µs for a statement that deletes or bans one user, 5 µs for an UPDATE of other
columns, and 1 µs for each row of a large DELETE. Transactions that notify
commit one after the other, which is felt with many at a time.

The connection must not go through a transaction pooler for its notifications
to arrive: see listen_database.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.each(cmd, f, func(ctx context.Context, out io.Writer, d *postgres.Directory) error {
				sql, err := d.InstallSQL(ctx)
				if err != nil {
					return err
				}
				sql += revocation.InstallSQL(f.grant...)
				return run(ctx, out, d, sql, f.print, "Changes of users are notified now, and revocations are shared")
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.users, "users", "", "The users table (default: found in the database)")
	cmd.MarkFlagsMutuallyExclusive("config", "users")
	cmd.Flags().StringSliceVar(&f.grant, "grant", nil, "Roles that may share revocations, such as the one that Caddy connects as (default: the owner alone)")
	return cmd
}

func (c commands) uninstall() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "uninstall [--database <dsn> | --config <path> [--adapter <name>]] [--print]",
		Short: "Removes every trace of install",
		Long: `
Drops the schema "stale_session", and with it the triggers on every table of
the database that install was run for. It needs the role that has installed
them.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.each(cmd, f, func(ctx context.Context, out io.Writer, d *postgres.Directory) error {
				return run(ctx, out, d, postgres.UninstallSQL, f.print, "Nothing is left of the triggers and the table of revocations")
			})
		},
	}
	f.add(cmd)
	return cmd
}

// run runs SQL, or prints it.
func run(ctx context.Context, out io.Writer, d *postgres.Directory, sql string, dry bool, done string) error {
	if dry {
		_, err := fmt.Fprintf(out, "-- %s\n%s", d, sql)
		return err
	}
	if err := d.Run(ctx, sql); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%s: %s\n", done, d)
	return err
}

// each does something with each database that the flags name.
func (c commands) each(cmd *cobra.Command, f flags, do func(context.Context, io.Writer, *postgres.Directory) error) error {
	cmd.SilenceUsage = true
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	configs, err := c.configs(f)
	if err != nil {
		return err
	}
	done := make(map[string]bool)
	for _, config := range configs {
		config.Logger = zap.NewNop   // the command prints what it does
		if config.ListenDSN != nil { // the direct one
			config.DSN = config.ListenDSN
		}
		dsn, err := config.DSN()
		if err != nil {
			return err
		}
		if distinct := fmt.Sprintf("%q %+v %q", dsn, config.Users, config.Query); done[distinct] {
			continue
		} else {
			done[distinct] = true
		}
		if err := with(ctx, cmd.OutOrStdout(), config, do); err != nil {
			return err
		}
	}
	return nil
}

func with(ctx context.Context, out io.Writer, config postgres.Config, do func(context.Context, io.Writer, *postgres.Directory) error) error {
	d, err := postgres.Open(config)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if err := do(ctx, out, d); err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	return nil
}

// configs returns the databases that the flags name.
func (c commands) configs(f flags) ([]postgres.Config, error) {
	if f.config == "" {
		o := postgres.DatabaseOptions{Database: f.database, Users: &postgres.Users{Table: f.users}}
		return []postgres.Config{o.Config()}, nil
	}
	sites, err := c.load(f.config, f.adapter)
	var configs []postgres.Config
	for _, site := range sites {
		if config, ok := postgres.ConfigOf(site.Directory); ok {
			configs = append(configs, config)
		}
	}
	if err == nil && len(configs) == 0 {
		err = errors.New("the handlers of the configuration do not look users up in Postgres")
	}
	return configs, err
}
