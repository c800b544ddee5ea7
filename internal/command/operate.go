package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-4adef13c/caddy-stale-session/internal/admin"
)

// Exit codes in addition to Caddy's own.
const (
	codeBad     = 2 // something is wrong; a session is stale
	codeUnknown = 3 // a session is neither live nor stale
)

// status returns the subcommand status.
func status() *cobra.Command {
	var e endpoint
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [--address <interface> | --config <path> [--adapter <name>]] [--json]",
		Short: "Shows the state of the handlers, their databases and counters",
		Long: `
Shows the state of the running Caddy. The exit code is 2 if user lookups fail,
changes are noticed late, the brake is on, or revocations are out of sync with
the other nodes.`,
		Args: cobra.NoArgs,
		RunE: withExitCode(func(cmd *cobra.Command, _ []string) (int, error) {
			var s admin.Status
			if err := e.get(admin.StatusPath, &s); err != nil {
				return 0, err
			}
			code := 0
			if slices.ContainsFunc(s.Databases, func(d admin.DatabaseStatus) bool { return d.Health != "ok" || d.Braking || d.Unshared }) {
				code = codeBad
			}
			p := newPrinter(cmd, asJSON)
			if p.json {
				return code, p.print(s)
			}
			writeStatus(p, s)
			return code, p.err
		}),
	}
	e.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON even on a terminal")
	return cmd
}

// clocks describes clocks for people.
func clocks(c *admin.ClocksStatus) string {
	if c == nil { // from an earlier version
		return "unknown"
	}
	var ahead []string
	for _, clock := range []struct {
		name    string
		seconds *float64
	}{{"the database's", c.Database}, {"the app's", c.App}} {
		if clock.seconds == nil {
			ahead = append(ahead, clock.name+" is not measured")
		} else {
			ahead = append(ahead, fmt.Sprintf("%s is %+.1f s", clock.name, *clock.seconds))
		}
	}
	return strings.Join(ahead, ", ") + fmt.Sprintf("; leeway of iat: %.0f s", c.Leeway)
}

func writeStatus(p *printer, s admin.Status) {
	p.line("stale_session %s, %d handlers", s.Version, len(s.Handlers))
	for _, h := range s.Handlers {
		p.line("  %s", strings.TrimSuffix(h.Mode+", "+h.Database, ", "))
	}
	for _, d := range s.Databases {
		p.line("")
		p.line("%s", d.Name)
		switch {
		case d.Health == "ok" && !d.Watched && d.Accounts.Misses == 0:
			p.row("health", "no lookup yet; `caddy stale-session doctor` tests it")
		case d.Health == "ok":
			p.row("health", p.good("ok"))
		default:
			p.row("health", p.bad(strings.TrimSuffix(d.Health+": "+d.Error, ": ")))
		}
		p.row("users", d.Users)
		p.row("changes", "noticed "+map[bool]string{true: "at once, through notifications", false: "within the poll interval"}[d.Notified])
		if d.Advice != "" {
			p.row("advice", p.bad(d.Advice))
		}
		if d.Braking {
			p.row("brake", p.bad("on: stale sessions pass, because too many users are gone at once"))
		}
		p.row("resets", fmt.Sprint(d.Resets)+map[bool]string{true: ", the last at " + formatTime(d.ResetAt)}[d.ResetAt != nil])
		p.row("clocks", clocks(d.Clocks))
		p.row("accounts", fmt.Sprintf("%d cached; %d hits, %d misses, %d evictions", d.Accounts.Entries, d.Accounts.Hits, d.Accounts.Misses, d.Accounts.Evictions))
		p.row("streams", fmt.Sprintf("%d under way", d.Streams))
		p.row("revoked", fmt.Sprint(len(d.Revoked)))
		if d.Unshared {
			p.row("", p.bad("out of sync with the other nodes: the shared store cannot be read or written; the log says why"))
		}
	}
	if len(s.Unread) > 0 {
		p.line("")
		p.line("read by nothing, although it looks like a session")
	}
	for _, u := range s.Unread {
		p.row(u.Name, u.Advice)
	}
	c := s.Counters
	p.line("")
	p.line("since Caddy started")
	p.row("checks", counts(c["checks_total"].By["verdict"]))
	p.row("stale", counts(c["checks_total"].By["reason"]))
	p.row("responses", counts(c["responses_total"].By["kind"]))
	p.row("rescues", fmt.Sprintf("%.0f of %.0f responses with status 5xx to live sessions", c["rescues_total"].Count, c["upstream_errors_total"].Count))
	p.row("streams", fmt.Sprintf("%.0f ended with their session", c["streams_ended_total"].Count))
	p.row("sign-ins", fmt.Sprintf("%.0f", c["sign_ins_total"].Count))
	if lookups := c["lookup_duration_seconds"]; lookups.Count > 0 {
		took := time.Duration(lookups.Sum / lookups.Count * float64(time.Second)).Round(10 * time.Microsecond)
		p.row("lookups", fmt.Sprintf("%.0f, %s on average; failed: %s", lookups.Count, took, counts(c["lookup_errors_total"].By["class"])))
	}
}

// check returns the subcommand check.
func check() *cobra.Command {
	var e endpoint
	var q admin.Question
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check (<subject> | --token <value> | --cookie <header>) [--address <interface> | --config <path> [--adapter <name>]] [--json]",
		Short: "Shows the verdict on a session, and why",
		Long: `
Shows the verdict of the running Caddy on the sessions of a user id, the value of
a session cookie, or the Cookie header of a request, past the cache. "-" reads
the token or the cookies from standard input, which keeps them out of the process
list and the shell history.

The exit code is 0 if the session is live, 2 if it is stale, and 3 otherwise (no
session of the app, expired, or the user could not be looked up).`,
		Args: cobra.MaximumNArgs(1),
		RunE: withExitCode(func(cmd *cobra.Command, args []string) (int, error) {
			if (len(args) == 1) == (q.Token+q.Cookies != "") {
				return 0, errors.New("give a user id, --token or --cookie")
			}
			if len(args) == 1 {
				q.Subject = args[0]
			}
			for _, text := range []*string{&q.Token, &q.Cookies} {
				if err := fromInput(cmd, text); err != nil {
					return 0, err
				}
			}
			var c admin.Checked
			if err := e.post(admin.CheckPath, q, &c); err != nil {
				return 0, err
			}
			if len(c.Handlers) == 0 {
				return 0, errors.New("the running Caddy has no stale_session handler, or all have `mode off`")
			}
			code := exitCode(c)
			p := newPrinter(cmd, asJSON)
			if p.json {
				return code, p.print(c)
			}
			for _, r := range c.Handlers {
				writeReasoning(p, r)
			}
			return code, p.err
		}),
	}
	e.add(cmd)
	cmd.Flags().StringVar(&q.Token, "token", "", "The value of a session cookie; - reads it from standard input")
	cmd.Flags().StringVar(&q.Cookies, "cookie", "", "The Cookie header of a request; - reads it from standard input")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON even on a terminal")
	cmd.MarkFlagsMutuallyExclusive("token", "cookie")
	return cmd
}

// fromInput replaces "-" by the text on standard input.
func fromInput(cmd *cobra.Command, text *string) error {
	if *text != "-" {
		return nil
	}
	all, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1<<20))
	*text = strings.TrimSpace(string(all))
	return err
}

// exitCode returns the exit code for the worst verdict.
func exitCode(c admin.Checked) int {
	code := 0
	for _, r := range c.Handlers {
		switch r.Verdict {
		case "stale":
			return codeBad
		case "live":
		default:
			code = codeUnknown
		}
	}
	return code
}

func writeReasoning(p *printer, r admin.Reasoning) {
	verdict := p.good(r.Verdict)
	if r.Verdict != "live" {
		verdict = p.bad(strings.TrimSpace(r.Verdict + " " + r.Reason))
	}
	p.line("%s: %s (mode %s)", r.Database, verdict, r.Mode)
	if r.Failure != "" {
		p.row("cookies", "no readable token: "+r.Failure)
	}
	for _, t := range r.Tokens {
		p.row("token", fmt.Sprintf("%s of subject %q, issued %s, expires %s", strings.Join(t.Cookies, " + "), t.Subject, formatTime(t.IssuedAt), formatTime(t.ExpiresAt)))
	}
	if a := r.Account; a != nil {
		p.row("account", map[bool]string{true: "exists", false: "does not exist"}[a.Exists]+map[bool]string{true: ", disabled", false: ""}[a.Disabled])
		if a.CreatedAt != nil || a.ValidAfter != nil {
			p.row("", fmt.Sprintf("created %s, sessions valid after %s", formatTime(a.CreatedAt), formatTime(a.ValidAfter)))
		}
	}
	if r.Revoked != nil {
		p.row("revoked", "sessions issued up to "+formatTime(r.Revoked))
	}
	if r.Error != "" {
		p.row("error", p.bad(r.Error))
	}
}

func formatTime(t *time.Time) string {
	if t == nil {
		return "unknown"
	}
	return t.Format(time.RFC3339)
}

// flushing returns the subcommand flush.
func flushing() *cobra.Command {
	var e endpoint
	cmd := &cobra.Command{
		Use:   "flush [--address <interface> | --config <path> [--adapter <name>]]",
		Short: "Drops all cached accounts, so that users are looked up again",
		Args:  cobra.NoArgs,
		RunE: withExitCode(func(cmd *cobra.Command, _ []string) (int, error) {
			var f admin.Flushed
			if err := e.post(admin.FlushPath, nil, &f); err != nil {
				return 0, err
			}
			return 0, newPrinter(cmd, false).say(f, "Removed %d accounts from the cache", f.Accounts)
		}),
	}
	e.add(cmd)
	return cmd
}

// revoking returns the subcommand revoke.
func revoking() *cobra.Command {
	return subjects(admin.RevokePath, "The current sessions of %q are revoked", &cobra.Command{
		Use:   "revoke <subject> [--force] [--database <name>] [--address <interface> | --config <path> [--adapter <name>]]",
		Short: "Ends the current sessions of a user",
		Long: `
Ends the current sessions of a user at their next request. The user can sign in
again: to prevent that, disable the user in the database. A revocation survives
reloads and restarts, and reaches all nodes that share revocations. An error says
whether it is in effect on this node only, or only until Caddy restarts.

The exit code is 1 if there is no such user; with --force, an id is revoked that
does not exist here, such as one that a provider gives.`,
	}, true)
}

// restoring returns the subcommand restore.
func restoring() *cobra.Command {
	return subjects(admin.RestorePath, "The sessions of %q are no longer revoked", &cobra.Command{
		Use:   "restore <subject> [--database <name>] [--address <interface> | --config <path> [--adapter <name>]]",
		Short: "Undoes the revocation of a user's sessions",
	}, false)
}

// subjects completes a subcommand about a subject.
func subjects(path, done string, cmd *cobra.Command, forces bool) *cobra.Command {
	var e endpoint
	var s admin.Subject
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = withExitCode(func(cmd *cobra.Command, args []string) (int, error) {
		s.Subject = args[0]
		if err := e.post(path, s, &s); err != nil {
			return 0, err
		}
		return 0, newPrinter(cmd, false).say(s, done, s.Subject)
	})
	e.add(cmd)
	cmd.Flags().StringVar(&s.Database, "database", "", "The name of the user's database in status, if there are several")
	if forces {
		cmd.Flags().BoolVar(&s.Force, "force", false, "Revoke also if there is no such user")
	}
	return cmd
}
