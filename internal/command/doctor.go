package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// maxRedirects is how often the sign-in page may send people on.
const maxRedirects = 10

// doctor is `caddy stale-session doctor`.
func (c commands) doctor() *cobra.Command {
	var config, adapter, token, signIn string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [--config <path> [--adapter <name>]] [--token <value>] [--sign-in <url>] [--json]",
		Short: "Looks for mistakes in a configuration and around it",
		Long: `
Tries what the stale_session handlers of a configuration need, and says what to
do about each mistake: the address of the database, the rights of the role, the
users table, the index of its ids, triggers and notifications, Redis where it
is used, the secret. Without --config it is that of a bare stale_session.

Run it with the environment that Caddy has. It changes nothing.

With --token it tells whether that value of a session cookie can be read, and if
not, which of secret, cookie name, algorithm and time is wrong; "-" reads it from
standard input.

It opens the sign-in page as somebody without a session, below AUTH_URL or
NEXTAUTH_URL or where --sign-in says, and tells whether that answers, and does
not send people in circles.

The exit code is 2 when something keeps the module from doing its work.`,
		Args: cobra.NoArgs,
		RunE: exits(func(cmd *cobra.Command, _ []string) (int, error) {
			if err := fromInput(cmd, &token); err != nil {
				return 0, err
			}
			sites, err := c.sites(config, adapter)
			if err != nil {
				return 0, err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			var found []directory.Finding
			for _, site := range sites {
				found = append(found, examine(ctx, site, token)...)
				if signIn == "" {
					found = append(found, examineSignIn(ctx, site))
				}
			}
			if signIn != "" {
				found = append(found, openSignIn(ctx, signIn))
			}
			found = once(found)
			code := 0
			if slices.ContainsFunc(found, func(f directory.Finding) bool { return f.Level == directory.Bad }) {
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
	cmd.Flags().StringVarP(&config, "config", "c", "", "The Caddy configuration to look at")
	cmd.Flags().StringVarP(&adapter, "adapter", "a", "", "The adapter of the configuration")
	cmd.Flags().StringVar(&token, "token", "", "The value of a session cookie that works in the app; - reads it from standard input")
	cmd.Flags().StringVar(&signIn, "sign-in", "", "The URL of the sign-in page, as people open it (default: sign_in below AUTH_URL or NEXTAUTH_URL)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON, on a terminal too")
	return cmd
}

// sites returns the handlers of a configuration file, or a bare one.
func (c commands) sites(file, adapter string) ([]Site, error) {
	if file != "" {
		return c.load(file, adapter)
	}
	return []Site{{
		Directory: &directory.Config{
			DSN:    func() (string, error) { return environment.New().Fill("database", "{env.DATABASE_URL}") },
			Logger: zap.NewNop,
		},
		Reader: func() (*session.Reader, error) {
			secrets, err := environment.New().Secrets()
			if err != nil {
				return nil, err
			}
			return session.New(session.Config{Secrets: secrets})
		},
		SignIn: func() (string, error) { return answer.SignInURL(answer.Answers{}, environment.New()) },
	}}, nil
}

// examine looks at what a handler needs.
func examine(ctx context.Context, site Site, token string) []directory.Finding {
	found := examineReader(site, token)
	if site.Examine != nil {
		found = append(found, site.Examine(ctx)...)
	}
	if site.Directory == nil {
		return found
	}
	users, err := directory.Open(*site.Directory)
	if err != nil {
		return append(found, directory.Finding{Level: directory.Bad, Text: "the database is not configured", Remedy: err.Error()})
	}
	defer users.Close()
	return append(found, users.Diagnose(ctx)...)
}

// examineReader looks at the secret.
func examineReader(site Site, token string) []directory.Finding {
	reader, err := site.Reader()
	switch {
	case err != nil:
		return []directory.Finding{{Level: directory.Bad, Text: "sessions cannot be read", Remedy: err.Error()}}
	case token == "":
		return []directory.Finding{{Level: directory.Good, Text: "there is a secret or a key", Remedy: "--token with the value of a session cookie shows whether it is the app's own"}}
	}
	if wrong := reader.Diagnose(token); wrong != "" {
		return []directory.Finding{{Level: directory.Bad, Text: "the token cannot be read", Remedy: wrong}}
	}
	return []directory.Finding{{Level: directory.Good, Text: "the token can be read, and names a user"}}
}

// examineSignIn opens the sign-in page of a handler.
func examineSignIn(ctx context.Context, site Site) directory.Finding {
	page, err := site.SignIn()
	switch {
	case err != nil:
		return directory.Finding{Level: directory.Bad, Text: "the sign-in page is not configured", Remedy: err.Error()}
	case page == "":
		return directory.Finding{Level: directory.Note, Text: "the sign-in page was not opened: neither AUTH_URL nor NEXTAUTH_URL is set", Remedy: "give its URL with --sign-in"}
	}
	return openSignIn(ctx, page)
}

// circles is the error of a page that sends people where they were.
type circles struct{ to string }

func (c circles) Error() string { return "it sends people in circles, to " + c.to + " again" }

// openSignIn opens the sign-in page as somebody without a session.
func openSignIn(ctx context.Context, page string) directory.Finding {
	bad := func(text, remedy string) directory.Finding {
		return directory.Finding{Level: directory.Bad, Text: "the sign-in page " + text, Remedy: remedy}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, http.NoBody)
	if err != nil || request.URL.Host == "" {
		return bad(fmt.Sprintf("has no URL that can be opened: %q", page), "give it with its scheme and host, such as https://example.com/api/auth/signin")
	}
	request.Header.Set("Accept", "text/html")
	way := []string{page}
	client := http.Client{Timeout: 20 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if slices.Contains(way, r.URL.String()) || len(way) > maxRedirects {
			return circles{r.URL.Redacted()}
		}
		way = append(way, r.URL.String())
		return nil
	}}
	response, err := client.Do(request)
	var round circles
	switch {
	case errors.As(err, &round):
		return bad("cannot be opened: "+round.Error(), "let it be opened without a session: look at the app's middleware, and at redirects in the Caddyfile; or name another page with `sign_in`")
	case err != nil:
		return bad("does not open: "+err.Error(), "start the app; or name the page where people sign in with `sign_in`, and its address with AUTH_URL or --sign-in")
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		return bad("answers "+response.Status, "name the page where people sign in with `sign_in`")
	}
	return directory.Finding{Level: directory.Good, Text: "the sign-in page opens, at " + response.Request.URL.Redacted()}
}

// once leaves out what several handlers have in common.
func once(found []directory.Finding) []directory.Finding {
	var all []directory.Finding
	for _, f := range found {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

func writeFinding(p *printer, f directory.Finding) {
	mark := map[directory.Level]string{directory.Good: p.good("good"), directory.Note: "note", directory.Bad: p.bad("bad ")}[f.Level]
	p.line("%s  %s", mark, f.Text)
	if f.Remedy != "" {
		p.line("      %s", f.Remedy)
	}
}
