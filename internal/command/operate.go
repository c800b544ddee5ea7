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

// Exit codes besides those of Caddy's own.
const (
	codeBad     = 2 // something is wrong; a session is stale
	codeUnknown = 3 // a session is neither live nor stale
)

// status is `caddy stale-session status`.
func status() *cobra.Command {
	var e endpoint
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [--address <interface> | --config <path> [--adapter <name>]] [--json]",
		Short: "Shows the state of the handlers, their databases and counters",
		Long: `
Shows the state of the running Caddy. The exit code is 0 when all is well, and 2
when user lookups fail, changes are noticed late, the brake is on, or revocations
are out of sync with the other nodes.`,
		Args: cobra.NoArgs,
		RunE: exits(func(cmd *cobra.Command, _ []string) (int, error) {
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
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON, on a terminal too")
	return cmd
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
			p.row("health", "not asked yet: no session has come by, and `caddy stale-session doctor` tries it")
		case d.Health == "ok":
			p.row("health", p.good("ok"))
		default:
			p.row("health", p.bad(strings.TrimSuffix(d.Health+": "+d.Error, ": ")))
		}
		p.row("users", d.Users)
		p.row("changes", map[bool]string{true: "noticed at once: the database tells of them", false: "noticed within the poll interval"}[d.Notified])
		if d.Braking {
			p.row("brake", p.bad("on: no session is ended, because too many would be"))
		}
		p.row("resets", fmt.Sprint(d.Resets)+map[bool]string{true: ", the last at " + moment(d.ResetAt)}[d.ResetAt != nil])
		p.row("accounts", fmt.Sprintf("%d known; %d found, %d looked up, %d evicted", d.Accounts.Entries, d.Accounts.Hits, d.Accounts.Misses, d.Accounts.Evictions))
		p.row("revoked", fmt.Sprint(len(d.Revoked)))
		if d.Unshared {
			p.row("", p.bad("not all of it is known to all nodes: the store that they share is away, or takes no writes; the log says why"))
		}
	}
	c := s.Counters
	p.line("")
	p.line("since Caddy was started")
	p.row("checks", counts(c["checks_total"].By["verdict"]))
	p.row("stale", counts(c["checks_total"].By["reason"]))
	p.row("responses", counts(c["responses_total"].By["kind"]))
	p.row("rescues", fmt.Sprintf("%.0f, of %.0f answers with a 5xx to live sessions", c["rescues_total"].Count, c["upstream_errors_total"].Count))
	p.row("sign-ins", fmt.Sprintf("%.0f", c["sign_ins_total"].Count))
	if lookups := c["lookup_duration_seconds"]; lookups.Count > 0 {
		took := time.Duration(lookups.Sum / lookups.Count * float64(time.Second)).Round(10 * time.Microsecond)
		p.row("lookups", fmt.Sprintf("%.0f, %s each; failed: %s", lookups.Count, took, counts(c["lookup_errors_total"].By["class"])))
	}
}

// check is `caddy stale-session check`.
func check() *cobra.Command {
	var e endpoint
	var q admin.Question
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check (--subject <id> | --token <value> | --cookie <field>) [--address <interface> | --config <path> [--adapter <name>]] [--json]",
		Short: "Shows how a session would be judged, and why",
		Long: `
Asks the running Caddy how it would judge the sessions of a user id, the value
of a session cookie, or the Cookie field of a request, past every cache. With
"-" a token or the cookies are read from standard input, which keeps them out of
the list of processes and the history of the shell.

The exit code is 0 for a live session, 2 for a stale one, and 3 for one that is
neither (no session of the app, expired, or the database cannot be asked).`,
		Args: cobra.NoArgs,
		RunE: exits(func(cmd *cobra.Command, _ []string) (int, error) {
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
				return 0, errors.New("the running Caddy has no stale_session handler, or each has `mode off`")
			}
			code := codeOf(c)
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
	cmd.Flags().StringVar(&q.Subject, "subject", "", "A user id")
	cmd.Flags().StringVar(&q.Token, "token", "", "The value of a session cookie; - reads it from standard input")
	cmd.Flags().StringVar(&q.Cookies, "cookie", "", "The Cookie field of a request; - reads it from standard input")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON, on a terminal too")
	cmd.MarkFlagsOneRequired("subject", "token", "cookie")
	cmd.MarkFlagsMutuallyExclusive("subject", "token", "cookie")
	return cmd
}

// fromInput reads a text from standard input where it is "-".
func fromInput(cmd *cobra.Command, text *string) error {
	if *text != "-" {
		return nil
	}
	all, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1<<20))
	*text = strings.TrimSpace(string(all))
	return err
}

// codeOf is the exit code for what the handlers judge: that of the gravest.
func codeOf(c admin.Checked) int {
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
		p.row("cookies", "no token could be read: "+r.Failure)
	}
	for _, t := range r.Tokens {
		p.row("token", fmt.Sprintf("%s of subject %q, issued %s, expires %s", strings.Join(t.Cookies, " + "), t.Subject, moment(t.IssuedAt), moment(t.ExpiresAt)))
	}
	if a := r.Account; a != nil {
		p.row("account", map[bool]string{true: "there is a row", false: "there is no row"}[a.Exists]+map[bool]string{true: ", disabled", false: ""}[a.Disabled])
		if a.CreatedAt != nil || a.ValidAfter != nil {
			p.row("", fmt.Sprintf("created %s, sessions valid after %s", moment(a.CreatedAt), moment(a.ValidAfter)))
		}
	}
	if r.Revoked != nil {
		p.row("revoked", "sessions from before "+moment(r.Revoked))
	}
	if r.Error != "" {
		p.row("error", p.bad(r.Error))
	}
}

func moment(t *time.Time) string {
	if t == nil {
		return "unknown"
	}
	return t.Format(time.RFC3339)
}

// flushing is `caddy stale-session flush`.
func flushing() *cobra.Command {
	var e endpoint
	cmd := &cobra.Command{
		Use:   "flush [--address <interface> | --config <path> [--adapter <name>]]",
		Short: "Forgets all cached accounts, so that each is looked up again",
		Args:  cobra.NoArgs,
		RunE: exits(func(cmd *cobra.Command, _ []string) (int, error) {
			var f admin.Flushed
			if err := e.post(admin.FlushPath, nil, &f); err != nil {
				return 0, err
			}
			return 0, newPrinter(cmd, false).say(f, "%d accounts are forgotten", f.Accounts)
		}),
	}
	e.add(cmd)
	return cmd
}

// revoking is `caddy stale-session revoke`.
func revoking() *cobra.Command {
	return subjects(admin.RevokePath, "The sessions of %q from before now are ended", &cobra.Command{
		Use:   "revoke <subject> [--database <name>] [--address <interface> | --config <path> [--adapter <name>]]",
		Short: "Ends the sessions that a user has",
		Long: `
Ends the sessions that a user has until now, at their next request. Who signs in
later is not concerned: to keep somebody out, disable the user in the database.
It survives reloads and restarts, and reaches all nodes of a fleet that share
their revocations. An error that says so tells that it holds on this node only.`,
	})
}

// restoring is `caddy stale-session restore`.
func restoring() *cobra.Command {
	return subjects(admin.RestorePath, "The sessions of %q are no longer revoked", &cobra.Command{
		Use:   "restore <subject> [--database <name>] [--address <interface> | --config <path> [--adapter <name>]]",
		Short: "Takes a revocation back",
	})
}

// subjects completes a command about a subject.
func subjects(path, done string, cmd *cobra.Command) *cobra.Command {
	var e endpoint
	var s admin.Subject
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = exits(func(cmd *cobra.Command, args []string) (int, error) {
		s.Subject = args[0]
		if err := e.post(path, s, &s); err != nil {
			return 0, err
		}
		return 0, newPrinter(cmd, false).say(s, done, s.Subject)
	})
	e.add(cmd)
	cmd.Flags().StringVar(&s.Database, "database", "", "The database of the users table, as status names it, when there are several")
	return cmd
}
