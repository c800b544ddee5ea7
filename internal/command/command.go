// Package command implements `caddy stale-session`.
package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// Site is what the subcommands need of a stale_session handler.
type Site struct {
	// Directory is the module that looks its users up.
	Directory directories.Module
	// Unwatched reports whether the option poll is off.
	Unwatched bool
	// Timeout is how long a request waits for a lookup.
	Timeout time.Duration
	// Revocations is the option revocations; nil for the default.
	Revocations *revocation.Revocations
	// Providers are what the app calls the identity providers that may end sessions, in
	// its table of linked accounts; none if that is not used.
	Providers []string
	// SignIn is the option sign_in; empty for the default.
	SignIn string
	// Reader returns its token reader, or an error of the configuration.
	Reader func() (*session.Reader, error)
}

// Register registers the command. describe parses the JSON of a handler.
func Register(describe func(handler []byte) (Site, error)) {
	c := commands{describe}
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "stale-session",
		Usage: "<status|check|flush|revoke|restore|install|uninstall|post-seed|doctor>",
		Short: "Operates the stale_session handler",
		Long: `
Through the admin endpoint of the running Caddy, shows the state of the
stale_session handlers (status) and the verdict on a session (check), drops
cached accounts (flush, post-seed), and revokes sessions (revoke, restore).
Installs triggers in the database (install, uninstall), and finds problems with
a configuration (doctor).

The output is text on a terminal, and JSON elsewhere.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = cobra.NoArgs // so that an unknown subcommand is an error
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
	config, err := adapt(file, adapter)
	if err != nil {
		return nil, err
	}
	sites, err := c.configured(config)
	if err == nil && len(sites) == 0 {
		err = errors.New("the configuration has no stale_session handler")
	}
	return sites, err
}

// adapt returns a configuration file as JSON. It does what caddycmd.LoadConfig does,
// but logs nothing.
func adapt(file, adapter string) ([]byte, error) {
	var config []byte
	var err error
	if file == "-" {
		config, err = io.ReadAll(os.Stdin)
	} else {
		config, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	name := strings.ToLower(filepath.Base(file))
	if adapter == "" && !strings.HasSuffix(name, ".json") && (strings.HasPrefix(name, "caddyfile") || strings.HasSuffix(name, ".caddyfile")) {
		adapter = "caddyfile"
	}
	if adapter == "" {
		return config, nil
	}
	adapted := caddyconfig.GetAdapter(adapter)
	if adapted == nil {
		return nil, fmt.Errorf("there is no config adapter %q: see `caddy list-modules`", adapter)
	}
	config, _, err = adapted.Adapt(config, map[string]any{"filename": file})
	if err != nil {
		return nil, fmt.Errorf("adapting the configuration: %w", err)
	}
	return config, nil
}

// configured returns all handlers of a configuration in JSON.
func (c commands) configured(config []byte) ([]Site, error) {
	var tree any
	if err := json.Unmarshal(config, &tree); err != nil {
		return nil, fmt.Errorf("the configuration is not JSON (--adapter names the adapter of another format): %w", err)
	}
	var found []Site
	var walk func(node any) error
	walk = func(node any) error {
		switch node := node.(type) {
		case []any:
			for _, child := range node {
				if err := walk(child); err != nil {
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

// withExitCode runs a subcommand that returns its exit code; it is 1 for an error.
func withExitCode(run func(cmd *cobra.Command, args []string) (int, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cmd.SilenceUsage = true
		code, err := run(cmd, args)
		if err != nil {
			return err // Caddy would log it, too
		}
		cmd.SilenceErrors = true // Caddy returns an error for a code other than 0
		return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, args)
	}
}
