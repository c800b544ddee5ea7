package command

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// doctor returns the subcommand doctor.
func (c commands) doctor() *cobra.Command {
	var config, adapter, token, signIn string
	var asJSON bool
	var env envfiles
	cmd := &cobra.Command{
		Use:   "doctor [--config <path> [--adapter <name>]] [--envfile <path>] [--token <value>] [--sign-in <url>] [--json]",
		Short: "Finds problems with a configuration, the database and the secret",
		Long: `
Tests what the stale_session handlers of a configuration need, and says what to
do about each problem: the address of the database, the rights of the role, the
users table, the index of its ids, triggers and notifications, listen_database,
where revocations are stored, Redis if it is used, and the secret. Without --config it tests a handler without options.

Run it in Caddy's environment, or name its environment file with --envfile. It
changes nothing.

With --token it tests whether the value of a session cookie can be read, and
looks its user up. If it cannot be read, it says what is wrong: the secret, the
cookie name, the algorithm or the time. "-" reads the value from standard input.

It opens the sign-in page without a session, at AUTH_URL, NEXTAUTH_URL or
--sign-in, and follows it on the site. It reports errors, redirect loops, other
sites that it leads to, and an app that takes another address than the site's for
its own.

The exit code is 2 if a problem keeps the module from working.`,
		Args: cobra.NoArgs,
		RunE: withExitCode(func(cmd *cobra.Command, _ []string) (int, error) {
			if err := fromInput(cmd, &token); err != nil {
				return 0, err
			}
			if err := env.load(); err != nil {
				return 0, err
			}
			sites, err := c.sites(config, adapter)
			if err != nil {
				return 0, err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			x := examination{ctx: ctx, token: token, once: make(map[string]bool)}
			for _, site := range sites {
				x.examine(site)
				if signIn == "" {
					x.signIn(site)
				}
			}
			if signIn != "" {
				x.add(openSignIn(ctx, signIn))
			}
			found := x.found
			code := 0
			if slices.ContainsFunc(found, func(f directories.Finding) bool { return f.Level == directories.Bad }) {
				code = codeBad
			}
			p := newPrinter(cmd, asJSON)
			if p.json {
				return code, p.print(found)
			}
			for _, f := range found {
				writeFinding(p, f)
			}
			return code, p.err
		}),
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "The Caddy configuration to test")
	cmd.Flags().StringVarP(&adapter, "adapter", "a", "", "The adapter of the configuration")
	env.add(cmd)
	cmd.Flags().StringVar(&token, "token", "", "The value of a valid session cookie, or cookies as name=value; …; - reads it from standard input")
	cmd.Flags().StringVar(&signIn, "sign-in", "", "The URL of the sign-in page (default: the path sign_in of AUTH_URL or NEXTAUTH_URL)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON even on a terminal")
	return cmd
}

func writeFinding(p *printer, f directories.Finding) {
	mark := map[directories.Level]string{directories.Good: p.good("good"), directories.Note: "note", directories.Bad: p.bad("bad ")}[f.Level]
	p.line("%s  %s", mark, f.Text)
	if f.Remedy != "" {
		p.line("      %s", f.Remedy)
	}
}
