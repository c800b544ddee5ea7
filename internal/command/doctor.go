package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
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
			var found []directories.Finding
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
		Directory: new(postgres.Module),
		Reader: func() (*session.Reader, error) {
			secrets, err := environment.New().Secrets()
			if err != nil {
				return nil, err
			}
			return session.New(session.Config{Secrets: secrets})
		},
	}}, nil
}

// examine looks at what a handler needs.
func examine(ctx context.Context, site Site, token string) []directories.Finding {
	found := append(examineReader(site, token), examineDirectory(ctx, site)...)
	if site.Revocations != nil && site.Revocations.Redis != "" {
		found = append(found, examineRevocations(ctx, site.Revocations))
	}
	return found
}

// nobody is a subject that no app gives to a user.
const nobody = "stale-session-doctor"

// examineDirectory looks at where users are looked up.
func examineDirectory(ctx context.Context, site Site) []directories.Finding {
	directory, err := openQuietly(site.Directory)
	if err != nil {
		return []directories.Finding{{Level: directories.Bad, Text: "the database is not configured", Remedy: err.Error()}}
	}
	if closer, ok := directory.(io.Closer); ok {
		defer closer.Close()
	}
	var found []directories.Finding
	if diagnoser, ok := directory.(directories.Diagnoser); ok {
		found = diagnoser.Diagnose(ctx)
	} else {
		found = append(found, tryDirectory(ctx, directory))
	}
	if site.Unwatched {
		found = append(found, directories.Finding{Level: directories.Note, Text: "`poll off`: a change is noticed when cached accounts expire", Remedy: "remove it, unless the database should fall asleep"})
	}
	return found
}

// openQuietly opens a directory that logs nothing: the command prints what it
// finds.
func openQuietly(module directories.Module) (directories.Directory, error) {
	config, ok := postgres.ConfigOf(module)
	if !ok {
		return module.OpenDirectory()
	}
	config.Logger = zap.NewNop
	directory, err := postgres.Open(config)
	if err != nil {
		return nil, err
	}
	return directory, nil
}

// tryDirectory looks up somebody who does not exist, which takes more than to
// find somebody: the answer must be one that ends sessions.
func tryDirectory(ctx context.Context, directory directories.Directory) directories.Finding {
	answers, err := directory.Lookup(ctx, []directories.Query{{Subject: []byte(nobody), Since: time.Now()}})
	if err == nil && len(answers) == 1 {
		err = answers[0].Failure
	}
	if err != nil {
		return directories.Finding{Level: directories.Bad, Text: "users cannot be looked up in " + directory.String(), Remedy: err.Error()}
	}
	return directories.Finding{Level: directories.Good, Text: "users can be looked up in " + directory.String()}
}

// examineRevocations looks at the Redis through which nodes share revocations.
func examineRevocations(ctx context.Context, options *revocation.Revocations) directories.Finding {
	store, err := revocation.OpenRedis(environment.Later("redis", options.Redis), options.Name, time.Duration(options.Life))
	if err != nil {
		return directories.Finding{Level: directories.Bad, Text: "the Redis of revocations is not configured", Remedy: err.Error()}
	}
	defer store.Close()
	if err := store.Examine(ctx); err != nil {
		return directories.Finding{Level: directories.Bad, Text: "nodes cannot share revocations through " + store.String(), Remedy: err.Error()}
	}
	return directories.Finding{Level: directories.Good, Text: "nodes can share revocations through " + store.String()}
}

// examineReader looks at the secret.
func examineReader(site Site, token string) []directories.Finding {
	reader, err := site.Reader()
	switch {
	case err != nil:
		return []directories.Finding{{Level: directories.Bad, Text: "sessions cannot be read", Remedy: err.Error()}}
	case token == "":
		return []directories.Finding{{Level: directories.Good, Text: "there is a secret or a key", Remedy: "--token with the value of a session cookie shows whether it is the app's own"}}
	}
	if wrong := reader.Diagnose(token); wrong != "" {
		return []directories.Finding{{Level: directories.Bad, Text: "the token cannot be read", Remedy: wrong}}
	}
	return []directories.Finding{{Level: directories.Good, Text: "the token can be read, and names a user"}}
}

// examineSignIn opens the sign-in page of a handler.
func examineSignIn(ctx context.Context, site Site) directories.Finding {
	page, err := answer.SignInURL(answer.Answers{SignIn: site.SignIn}, environment.New())
	switch {
	case err != nil:
		return directories.Finding{Level: directories.Bad, Text: "the sign-in page is not configured", Remedy: err.Error()}
	case page == "":
		return directories.Finding{Level: directories.Note, Text: "the sign-in page was not opened: neither AUTH_URL nor NEXTAUTH_URL is set", Remedy: "give its URL with --sign-in"}
	}
	return openSignIn(ctx, page)
}

// circles is the error of a page that sends people where they were.
type circles struct{ to string }

func (c circles) Error() string { return "it sends people in circles, to " + c.to + " again" }

// openSignIn opens the sign-in page as somebody without a session.
func openSignIn(ctx context.Context, page string) directories.Finding {
	bad := func(text, remedy string) directories.Finding {
		return directories.Finding{Level: directories.Bad, Text: "the sign-in page " + text, Remedy: remedy}
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
	return directories.Finding{Level: directories.Good, Text: "the sign-in page opens, at " + response.Request.URL.Redacted()}
}

// once leaves out what several handlers have in common.
func once(found []directories.Finding) []directories.Finding {
	var all []directories.Finding
	for _, f := range found {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

func writeFinding(p *printer, f directories.Finding) {
	mark := map[directories.Level]string{directories.Good: p.good("good"), directories.Note: "note", directories.Bad: p.bad("bad ")}[f.Level]
	p.line("%s  %s", mark, f.Text)
	if f.Remedy != "" {
		p.line("      %s", f.Remedy)
	}
}
