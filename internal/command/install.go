package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// flags are the flags of install and uninstall.
type flags struct {
	database, config, adapter, users string
	grant                            []string
	surviveReset                     bool
	print                            bool
	env                              envfiles
}

func (f *flags) add(cmd *cobra.Command) {
	cmd.Args = cobra.NoArgs
	cmd.Flags().StringVar(&f.database, "database", "", "The address of the database, which can hold placeholders (default {env.DATABASE_URL})")
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "The Caddy configuration with the databases and users tables")
	cmd.Flags().StringVarP(&f.adapter, "adapter", "a", "", "The adapter of the configuration")
	cmd.Flags().BoolVar(&f.print, "print", false, "Print the SQL for your own migration, and change nothing")
	f.env.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("config", "database")
}

func (c commands) install() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "install [--database <dsn> [--users <table>] | --config <path> [--adapter <name>]] [--envfile <path>] [--grant <role> [--survive-reset]] [--print]",
		Short: "Installs triggers that notify Caddy of changed users, a table of revocations, and rights",
		Long: `
Creates the schema "stale_session" with a function, and three triggers on the
users table that call it. They notify the channel "stale_session" when users are
deleted, when the table is truncated, and when a column that a verdict depends
on changes: the id, and the created_at, valid_after, disabled and match columns
of the configuration, or without --config those that the handler finds. Run it
again when the table was recreated or the configuration has changed. It can be
run repeatedly, and replaces the triggers of an earlier version.

The schema also has the table "revocations", through which nodes share revoked
sessions. Pass the role that Caddy connects as with --grant, unless it owns the
tables. That role can then use the table of revocations, and read these columns
of the users table; and if there is a table of linked accounts, the three of its
columns by which "provider" finds users.

A reset that drops the table or its schema, such as "prisma migrate reset", drops
the triggers and these rights with it. With --survive-reset the role keeps them,
through default privileges of the owner of the users table, and Caddy puts the
triggers back, through a function that does only that. The price: the role can
read every table that this owner creates from then on. Use it for development.

Run it as the owner of the users table, with CREATE on the database. Roles that
write to the users table need no further rights. Writers wait for a tenth of a
second at most while it runs.

No statement of the app fails because of the triggers, nor does a migration.
Where a notification could fail or wait, none is sent, and the change is noticed
within the poll interval.

Cost for writers: a DELETE sends one notification per row, or one if there are
more than 1000; an UPDATE compares these columns in up to 1000 rows, and sends a
notification for each row in which one has changed; an INSERT costs nothing.
Measured: about 45 µs for a statement that deletes or disables one user, 15 µs
for an UPDATE of other columns, a sixth of the time of a large statement.

Notifications do not arrive through a transaction pooler: see listen_database.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.surviveReset && len(f.grant) == 0 {
				return errors.New("--survive-reset needs the role that Caddy connects as: add --grant ROLE")
			}
			done := make(map[string]bool)
			return c.each(cmd, f, func(ctx context.Context, out io.Writer, d opened) error {
				sql, err := d.InstallSQL(ctx)
				if err != nil {
					return err
				}
				grants, err := d.GrantSQL(ctx, f.grant, f.surviveReset)
				if err != nil {
					return err
				}
				distinct := fmt.Sprintf("%q %q %q %q", d.dsn, sql, grants.SQL, grants.Note)
				if done[distinct] { // for another site, whose columns are among these
					return nil
				}
				done[distinct] = true
				if f.surviveReset {
					restore, err := d.RestoreSQL(ctx, f.grant)
					if err != nil {
						return err
					}
					sql += restore
				}
				grants.SQL = sql + revocation.InstallSQL(f.grant...) + grants.SQL
				return run(ctx, out, d.Directory, grants, f.print, "Installed the triggers and the table of revocations")
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.users, "users", "", "The users table (default: detected)")
	cmd.MarkFlagsMutuallyExclusive("config", "users")
	cmd.Flags().StringSliceVar(&f.grant, "grant", nil, "Roles that can read the users table and that of linked accounts, and use the table of revocations, such as the one that Caddy connects as (default: only the owner)")
	cmd.Flags().BoolVar(&f.surviveReset, "survive-reset", false, "Let these roles keep their rights through a reset: they can read every table that the owner creates")
	return cmd
}

func (c commands) uninstall() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "uninstall [--database <dsn> | --config <path> [--adapter <name>]] [--envfile <path>] [--print]",
		Short: "Removes everything that install created",
		Long: `
Drops the schema "stale_session", and with it the triggers on all users tables
of the database. It takes back the default privileges of --survive-reset. The
rights to read the present tables stay, because Caddy may go on without triggers;
it says what takes them back. Run it as the role that ran install.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.each(cmd, f, func(ctx context.Context, out io.Writer, d opened) error {
				revoked, err := d.RevokeSQL(ctx)
				if err != nil {
					return err
				}
				revoked.SQL += postgres.UninstallSQL
				return run(ctx, out, d.Directory, revoked, f.print, "Removed the triggers and the table of revocations")
			})
		},
	}
	f.add(cmd)
	return cmd
}

// run executes a script, or prints it if dry is set.
func run(ctx context.Context, out io.Writer, d *postgres.Directory, script postgres.Script, dry bool, done string) error {
	if dry {
		notes := ""
		for line := range strings.Lines(script.Note) {
			notes += "-- " + line
		}
		_, err := fmt.Fprintf(out, "-- %s\n%s%s", d, notes, script.SQL)
		return err
	}
	if script.Denied != nil {
		return script.Denied
	}
	if err := d.Run(ctx, script.SQL); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%s in %s\n%s", done, d, script.Note)
	return err
}

// each calls do for each database and users table that the flags name.
func (c commands) each(cmd *cobra.Command, f flags, do func(context.Context, io.Writer, opened) error) error {
	cmd.SilenceUsage = true
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := f.env.load(); err != nil {
		return err
	}
	configs, err := c.configs(f)
	if err != nil {
		return err
	}
	all, err := open(configs)
	defer func() {
		for _, o := range all {
			_ = o.Close()
		}
	}()
	if err != nil {
		return err
	}
	for _, o := range all {
		for _, other := range all {
			if other.dsn == o.dsn {
				o.Beside(other.Directory)
			}
		}
	}
	for _, o := range all {
		if err := do(ctx, cmd.OutOrStdout(), o); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	return nil
}

// opened is a directory at an address.
type opened struct {
	*postgres.Directory
	dsn string
}

// open opens the directories of configurations, each once.
func open(configs []postgres.Config) ([]opened, error) {
	var all []opened
	done := make(map[string]bool)
	for _, config := range configs {
		config.Logger = zap.NewNop   // the command prints what it does
		if config.ListenDSN != nil { // not through a pooler
			config.DSN = config.ListenDSN
		}
		dsn, err := config.DSN()
		if err != nil {
			return all, err
		}
		distinct := fmt.Sprintf("%q %+v %q", dsn, config.Users, config.Query)
		if done[distinct] {
			continue
		}
		done[distinct] = true
		d, err := postgres.Open(config)
		if err != nil {
			return all, err
		}
		all = append(all, opened{d, dsn})
	}
	return all, nil
}

// configs returns the databases that the flags name, with their users tables.
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
		err = errors.New("no stale_session handler of the configuration looks users up in Postgres")
	}
	return configs, err
}
