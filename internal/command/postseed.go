package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-4adef13c/caddy-stale-session/internal/admin"
)

// postSeed returns the subcommand post-seed.
func postSeed() *cobra.Command {
	var e endpoint
	cmd := &cobra.Command{
		Use:   "post-seed [--address <interface> | --config <path> [--adapter <name>]]",
		Short: "Makes the running Caddy look all users up again, after the database was seeded",
		Long: `
Drops the cached accounts of the running Caddy, and says what happens next. Run
it after the database was seeded:

	"db:seed": "node seed.mjs && caddy stale-session post-seed"

If Caddy does not run, it says so, and the exit code is 0. Without post-seed, the
change is noticed within the poll interval.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			var flushed admin.Flushed
			if err := e.post(admin.FlushPath, nil, &flushed); err != nil {
				_, err = fmt.Fprintf(out, "Cannot reach Caddy: %v\n\n"+
					"If it runs, it notices the seed within its poll interval. If not, browsers keep\n"+
					"the sessions of users who no longer exist, and saving fails with foreign-key\n"+
					"violations: start Caddy, or sign out and in again.\n", err)
				return err
			}
			dropped := fmt.Sprintf("Caddy dropped %d cached accounts", flushed.Accounts)
			switch flushed.Accounts {
			case 0:
				dropped = "Caddy had no accounts cached, or had noticed the seed already"
			case 1:
				dropped = "Caddy dropped 1 cached account"
			}
			_, err := fmt.Fprintf(out, "%s, and looks every user up again.\n\n"+
				"Browsers with the session of a user who no longer exists are redirected to the\n"+
				"sign-in page at their next request. Sign in with a user of the new seed:\n%s\n", dropped, strings.Join(flushed.SignIn, "\n"))
			return err
		},
	}
	e.add(cmd)
	return cmd
}
