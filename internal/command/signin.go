package command

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/location"
)

// maxRedirects is how many redirects of the sign-in page are followed.
const maxRedirects = 10

// signIn opens the sign-in page of a handler.
func (x *examination) signIn(site Site) {
	if reader, err := site.Reader(); err == nil && site.SignIn == "" && !reader.SignInPage() {
		x.add(directories.Finding{Level: directories.Note, Text: "the sign-in page was not opened: the app's library has none of its own", Remedy: "pass its URL with --sign-in"})
		return
	}
	page, err := answer.SignInURL(answer.Answers{SignIn: site.SignIn}, environment.New())
	switch {
	case err != nil:
		x.add(directories.Finding{Level: directories.Bad, Text: "the sign-in page is not configured", Remedy: err.Error()})
	case page == "":
		x.add(directories.Finding{Level: directories.Note, Text: "the sign-in page was not opened: neither AUTH_URL nor NEXTAUTH_URL is set", Remedy: "pass its URL with --sign-in"})
	case x.first("page", page):
		x.add(openSignIn(x.ctx, page))
	}
}

// redirectLoopError is the error of a page that redirects in a loop, or too often.
type redirectLoopError struct{ to string }

func (e redirectLoopError) Error() string { return "redirect loop at " + e.to }

// openSignIn opens the sign-in page without a session, and follows its redirects as
// far as they stay on the site.
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
		if look(r.Response) || !sameHost(r.URL, request.URL) {
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
