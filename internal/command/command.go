// Package command is `caddy stale-session`.
package command

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// Site is a stale_session handler of a configuration.
type Site struct {
	// Directory is where its users are looked up.
	Directory directories.Module
	// Unwatched reports whether it is not watched for changes (`poll off`).
	Unwatched bool
	// Revocations says where revocations are shared; nil for the default.
	Revocations *revocation.Revocations
	// SignIn is the option sign_in.
	SignIn string
	// Reader returns what reads its session cookies.
	Reader func() (*session.Reader, error)
}

// Register registers the command. Describe reads the JSON of a handler.
func Register(describe func(handler []byte) (Site, error)) {
	c := commands{describe}
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "stale-session",
		Usage: "<status|check|flush|revoke|restore|install|uninstall|post-seed|doctor>",
		Short: "Looks at and works on the stale_session handler",
		Long: `
Asks the running Caddy, through its admin endpoint, what the stale_session
handler knows and does (status, check), and tells it what to do (flush, revoke,
restore, post-seed). Works on the database (install, uninstall), and looks for
mistakes in a configuration (doctor).

On a terminal the output is for people, elsewhere it is JSON.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = cobra.NoArgs // a subcommand that is mistyped fails
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.AddCommand(status(), check(), flushing(), revoking(), restoring(), c.install(), c.uninstall(), postSeed(), c.doctor())
		},
	})
}

// commands are the subcommands that read a configuration.
type commands struct {
	describe func(handler []byte) (Site, error)
}

// load returns the handlers of a configuration file.
func (c commands) load(file, adapter string) ([]Site, error) {
	config, _, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return nil, err
	}
	sites, err := c.configured(config)
	if err == nil && len(sites) == 0 {
		err = errors.New("the configuration has no stale_session handler")
	}
	return sites, err
}

// configured returns the handlers of a configuration in JSON, wherever in it
// they stand.
func (c commands) configured(config []byte) ([]Site, error) {
	var tree any
	if err := json.Unmarshal(config, &tree); err != nil {
		return nil, err
	}
	var found []Site
	var walk func(node any) error
	walk = func(node any) error {
		switch node := node.(type) {
		case []any:
			for _, inner := range node {
				if err := walk(inner); err != nil {
					return err
				}
			}
		case map[string]any:
			if node["handler"] != "stale_session" {
				for _, key := range slices.Sorted(maps.Keys(node)) {
					if err := walk(node[key]); err != nil {
						return err
					}
				}
				return nil
			}
			text, err := json.Marshal(node)
			if err != nil {
				return err
			}
			site, err := c.describe(text)
			found = append(found, site)
			return err
		}
		return nil
	}
	err := walk(tree)
	return found, err
}

// exits runs a subcommand whose exit code says more than whether it failed.
func exits(run func(cmd *cobra.Command, args []string) (int, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cmd.SilenceUsage = true
		return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
			code, err := run(cmd, args)
			if err != nil {
				return caddy.ExitCodeFailedStartup, err
			}
			cmd.SilenceErrors = true // the code is the message
			return code, nil
		})(cmd, args)
	}
}
