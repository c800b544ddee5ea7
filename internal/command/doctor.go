package command

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/location"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// maxRedirects is how many redirects of the sign-in page are followed.
const maxRedirects = 10

// doctor returns the subcommand doctor.
func (c commands) doctor() *cobra.Command {
	var config, adapter, token, signIn string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [--config <path> [--adapter <name>]] [--token <value>] [--sign-in <url>] [--json]",
		Short: "Finds problems with a configuration, the database and the secret",
		Long: `
Tests what the stale_session handlers of a configuration need, and says what to
do about each problem: the address of the database, the rights of the role, the
users table, the index of its ids, triggers and notifications, Redis if it is
used, and the secret. Without --config it tests a handler without options.

Run it in Caddy's environment. It changes nothing.

With --token it tests whether the value of a session cookie can be read, and
looks its user up. If it cannot be read, it says what is wrong: the secret, the
cookie name, the algorithm or the time. "-" reads the value from standard input.

It opens the sign-in page without a session, at AUTH_URL, NEXTAUTH_URL or
--sign-in, and reports errors, redirect loops, and an app that takes another
address than the site's for its own.

The exit code is 2 if a problem keeps the module from working.`,
		Args: cobra.NoArgs,
		RunE: withExitCode(func(cmd *cobra.Command, _ []string) (int, error) {
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
			found = distinct(found)
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
	cmd.Flags().StringVar(&token, "token", "", "The value of a valid session cookie, or cookies as name=value; …; - reads it from standard input")
	cmd.Flags().StringVar(&signIn, "sign-in", "", "The URL of the sign-in page (default: the path sign_in of AUTH_URL or NEXTAUTH_URL)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON even on a terminal")
	return cmd
}

// sites returns the handlers of a configuration file, or without a file one
// without options.
func (c commands) sites(file, adapter string) ([]Site, error) {
	if file != "" {
		return c.load(file, adapter)
	}
	site, err := c.describe([]byte("{}"))
	return []Site{site}, err
}

// examine tests what a handler needs.
func examine(ctx context.Context, site Site, token string) []directories.Finding {
	found, subject := examineReader(site, token)
	found = append(found, examineDirectory(ctx, site, subject)...)
	if site.Revocations != nil && site.Revocations.Redis != "" {
		found = append(found, examineRevocations(ctx, site.Revocations))
	}
	return found
}

// nobody is a subject that does not exist.
const nobody = "stale-session-doctor"

// examineDirectory tests the directory of a handler, and looks a subject up, unless
// it is nil.
func examineDirectory(ctx context.Context, site Site, subject []byte) []directories.Finding {
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
	if subject != nil {
		found = append(found, findUser(ctx, directory, subject))
	}
	if site.Unwatched {
		found = append(found, directories.Finding{Level: directories.Note, Text: "with `poll off`, changes are noticed only when cached accounts expire", Remedy: "remove `poll off`, unless polling would keep a database awake that should sleep"})
	}
	return found
}

// openQuietly opens a directory that logs nothing: the findings have everything.
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

// tryDirectory looks up a user who does not exist, because only a missing user
// needs an answer that is proven.
func tryDirectory(ctx context.Context, directory directories.Directory) directories.Finding {
	if _, err := confirm(ctx, directory, []byte(nobody)); err != nil {
		return directories.Finding{Level: directories.Bad, Text: "users cannot be looked up in " + directory.String(), Remedy: err.Error()}
	}
	return directories.Finding{Level: directories.Good, Text: "users can be looked up in " + directory.String()}
}

// confirm looks a subject up as it is before a session ends.
func confirm(ctx context.Context, directory directories.Directory, subject []byte) (directories.Account, error) {
	answers, err := directory.Lookup(ctx, []directories.Query{{Subject: subject, Since: time.Now()}})
	switch {
	case err != nil:
		return directories.Account{}, err
	case len(answers) != 1:
		return directories.Account{}, errors.New("it did not answer the query")
	}
	return answers[0], answers[0].Failure
}

// findUser looks the user of a token up.
func findUser(ctx context.Context, directory directories.Directory, subject []byte) directories.Finding {
	account, err := confirm(ctx, directory, subject)
	switch {
	case err != nil && !account.Exists:
		return directories.Finding{Level: directories.Note, Text: "it is not known whether the user of the token exists: such a session passes unchecked", Remedy: err.Error()}
	case !account.Exists:
		return directories.Finding{Level: directories.Bad, Text: "the token names nobody in " + directory.String(), Remedy: "sign in again for a new token; if the session does work in the app, `database`, `users` or `subject` is wrong"}
	}
	return directories.Finding{Level: directories.Good, Text: "the token names a user in " + directory.String()}
}

// examineRevocations tests the Redis through which nodes share revocations.
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

// examineReader tests the secret and the keys. It returns the subject of a token;
// nil if there is none.
func examineReader(site Site, token string) (found []directories.Finding, subject []byte) {
	reader, err := site.Reader()
	switch {
	case err != nil:
		return []directories.Finding{{Level: directories.Bad, Text: "sessions cannot be read", Remedy: err.Error()}}, nil
	case token == "":
		return []directories.Finding{{Level: directories.Good, Text: "a secret or a key is configured", Remedy: "to test whether it is the app's own, pass the value of a session cookie with --token"}}, nil
	}
	if wrong := reader.Diagnose(token); wrong != "" {
		return []directories.Finding{{Level: directories.Bad, Text: "the token cannot be read", Remedy: wrong}}, nil
	}
	s := new(session.Session)
	reader.ReadToken(token, s)
	return []directories.Finding{{Level: directories.Good, Text: "the token can be read, and has a user id"}}, s.Tokens[0].Claims.Subject
}

// examineSignIn opens the sign-in page of a handler.
func examineSignIn(ctx context.Context, site Site) directories.Finding {
	if reader, err := site.Reader(); err == nil && site.SignIn == "" && !reader.SignInPage() {
		return directories.Finding{Level: directories.Note, Text: "the sign-in page was not opened: the app's library has none of its own", Remedy: "pass its URL with --sign-in"}
	}
	page, err := answer.SignInURL(answer.Answers{SignIn: site.SignIn}, environment.New())
	switch {
	case err != nil:
		return directories.Finding{Level: directories.Bad, Text: "the sign-in page is not configured", Remedy: err.Error()}
	case page == "":
		return directories.Finding{Level: directories.Note, Text: "the sign-in page was not opened: neither AUTH_URL nor NEXTAUTH_URL is set", Remedy: "pass its URL with --sign-in"}
	}
	return openSignIn(ctx, page)
}

// redirectLoopError is the error of a page that redirects in a loop, or too often.
type redirectLoopError struct{ to string }

func (e redirectLoopError) Error() string { return "redirect loop at " + e.to }

// openSignIn opens the sign-in page without a session.
func openSignIn(ctx context.Context, page string) directories.Finding {
	bad := func(text, remedy string) directories.Finding {
		return directories.Finding{Level: directories.Bad, Text: "the sign-in page " + text, Remedy: remedy}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, http.NoBody)
	if err != nil || request.URL.Scheme != "https" && request.URL.Scheme != "http" || !location.ValidHost(request.URL.Hostname()) || location.Torn(page) { // not quoted: it may hold a password
		return bad("has no absolute URL", "give its scheme and host, as in https://example.com/api/auth/signin")
	}
	request.Header.Set("Accept", "text/html")
	visited := []string{page}
	var elsewhere []url.URL // origins that it leads to
	look := func(response *http.Response) (inside bool) {
		for _, to := range answer.Origins(response.Header, response.StatusCode) {
			if !sameHost(&to, request.URL) {
				elsewhere = append(elsewhere, to)
			}
		}
		return slices.ContainsFunc(elsewhere, answer.IsInside)
	}
	client := http.Client{Timeout: 20 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if look(r.Response) {
			return http.ErrUseLastResponse
		}
		if slices.Contains(visited, r.URL.String()) || len(visited) > maxRedirects {
			return redirectLoopError{r.URL.Redacted()}
		}
		visited = append(visited, r.URL.String())
		return nil
	}}
	response, err := client.Do(request)
	var loop redirectLoopError
	switch {
	case errors.As(err, &loop):
		return bad("cannot be opened: "+loop.Error(), "make it open without a session: check the app's middleware and the redirects in the Caddyfile, or set `sign_in` to another page")
	case err != nil:
		return bad("cannot be opened: "+err.Error(), "start the app, or set `sign_in` to the path of the page and AUTH_URL to the address of the site")
	}
	defer response.Body.Close()
	inside := look(response)
	switch {
	case inside:
		at := slices.IndexFunc(elsewhere, answer.IsInside)
		return bad("sends people to "+elsewhere[at].String()+", which they cannot reach", ownAddress)
	case response.StatusCode >= http.StatusBadRequest:
		return bad("answers "+response.Status, "set `sign_in` to the page where people sign in")
	case len(elsewhere) > 0:
		return directories.Finding{Level: directories.Note, Text: "the sign-in page sends people to another site, " + elsewhere[0].String(), Remedy: "if that is not where they sign in: " + ownAddress}
	}
	return directories.Finding{Level: directories.Good, Text: "the sign-in page opens, at " + response.Request.URL.Redacted()}
}

// ownAddress is what to do if an app takes another address than the site's for its
// own.
const ownAddress = "set AUTH_URL (NEXTAUTH_URL for NextAuth v4) in the app's environment to the address of this site; " +
	"or AUTH_TRUST_HOST=true there, and pass the client's Host on to the app: no `header_up Host` in reverse_proxy but `header_up Host {host}`"

// sameHost reports whether two URLs have the same host, and the same port unless
// those are the usual ones.
func sameHost(a, b *url.URL) bool {
	host := func(u *url.URL) string {
		return strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(u.Host, ":443"), ":80"))
	}
	return host(a) == host(b)
}

// distinct removes duplicates: handlers share databases.
func distinct(found []directories.Finding) []directories.Finding {
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
