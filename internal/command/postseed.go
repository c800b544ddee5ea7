package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-4adef13c/caddy-stale-session/internal/admin"
)

// postSeed is the last step of an app's `db:seed`.
func postSeed() *cobra.Command {
	var e endpoint
	cmd := &cobra.Command{
		Use:   "post-seed [--address <interface> | --config <path> [--adapter <name>]]",
		Short: "Has the running Caddy look all users up again, after the database was seeded",
		Long: `
Tells the running Caddy, through its admin endpoint, to forget what it knows of
users, and says what happens next. Put it at the end of what seeds the database:

	"db:seed": "node seed.mjs && caddy stale-session post-seed"

It never fails: when Caddy does not run, it says so and exits with 0. Without it
the change is noticed as well, within the poll interval.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			var flushed admin.Flushed
			if err := e.post(admin.FlushPath, nil, &flushed); err != nil {
				_, err = fmt.Fprintf(out, "Caddy was not told that the database was seeded: %v\n\n"+
					"If it runs, it notices by itself within its poll interval. If it does not,\n"+
					"browsers that were signed in keep sessions of users who are gone, and saving\n"+
					"fails with foreign-key violations: start Caddy, or sign out and in again.\n", err)
				return err
			}
			forgotten := fmt.Sprintf("Caddy has forgotten %d users", flushed.Accounts)
			if flushed.Accounts == 0 {
				forgotten = "Caddy knew of no users, or has noticed the seed by itself"
			}
			_, err := fmt.Fprintf(out, "%s, and looks each up again.\n\n"+
				"Browsers that were signed in as users who are gone are sent to the sign-in page\n"+
				"at their next request. Sign in there with a user of the new seed.\n", forgotten)
			return err
		},
	}
	e.add(cmd)
	return cmd
}
