// Package stalesession is a Caddy module that ends the sessions of users who
// no longer exist. It reads the session cookie of NextAuth v4, Auth.js v5 or
// any signed JWT, and checks its subject against the app's own Postgres.
package stalesession

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/scope"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler ends stale sessions: sessions whose user was deleted, disabled or
// replaced by another since the session cookie was made. On guarded routes it
// clears the cookies of such a session and sends people to the sign-in page,
// API clients a 401 in JSON. On scrubbed routes it takes the cookies off the
// request, which goes on as anonymous. Every other request passes untouched.
//
// It needs no change to the app. For a standard NextAuth or Auth.js app it
// needs no configuration either, when DATABASE_URL and AUTH_SECRET or
// NEXTAUTH_SECRET are set in Caddy's environment.
//
// Whatever cannot be found out, because the database is down, slow or being
// migrated, never ends a session.
//
// Placeholders, once a request was checked:
//
//	{http.stale_session.verdict}   live, stale, anonymous, invalid or unknown
//	{http.stale_session.reason}    user_not_found, user_disabled, token_predates_account, token_revoked or claim_mismatch, when stale
//	{http.stale_session.subject}   the user id that the session names
//
// Each detection emits the event `stale_session.detected`, and logs the line
// "stale session detected" at level WARN.
type Handler struct {
	// Guarded selects the requests on which a stale session is answered.
	// Default: all. The sign-in page and the auth routes are never answered,
	// whatever is selected.
	GuardedRaw caddyhttp.RawMatcherSets `json:"guarded,omitempty" caddy:"namespace=http.matchers"`

	// The Postgres to look users up in, as a connection URL or a keyword/value
	// string; Prisma's URL parameters are understood. Use a placeholder
	// ({env.NAME} or {file./path}), so that the password is not part of the
	// configuration. Default: {env.DATABASE_URL}.
	Database string `json:"database,omitempty"`

	// The users table and its columns. Default: found in the database, for the
	// schemas of the Auth.js adapters, Prisma and Better Auth.
	Users *Users `json:"users,omitempty"`

	// A query that takes the place of the users table. It has one parameter, a
	// text[] of subjects, and returns a row for each that exists: the column
	// `id`, and optionally `created_at`, `valid_after`, `disabled` and the
	// columns to match.
	Query string `json:"query,omitempty"`

	// The secrets that the app makes its session cookies with; several while
	// one is being rotated. Use placeholders. Default: {env.AUTH_SECRET} and
	// {env.NEXTAUTH_SECRET}, those that are set, unless there is a key file or
	// a JWKS.
	Secrets []string `json:"secrets,omitempty"`

	// A PEM file of public keys or certificates, for tokens signed with RS, PS,
	// ES 256 to 512 or EdDSA.
	KeyFile string `json:"key_file,omitempty"`

	// The file or URL of a JSON Web Key Set (RFC 7517), for the same. A URL is
	// fetched in the background, and again as its keys change.
	JWKS string `json:"jwks,omitempty"`

	// The `iss` claim that tokens must have. Default: not checked.
	Issuer string `json:"issuer,omitempty"`

	// The `aud` claim that tokens must have or contain. Default: not checked.
	Audience string `json:"audience,omitempty"`

	// The names of the session cookies, without the numbers of chunks.
	// Default: those of NextAuth v4 and Auth.js v5, plain and with the
	// prefixes __Secure- and __Host-.
	Cookies []string `json:"cookies,omitempty"`

	// The domain that the app sets its session cookies for, when it sets one:
	// the cookies are then cleared for it too.
	CookieDomain string `json:"cookie_domain,omitempty"`

	// The claim that holds the user id, as a path such as `user.id`. It may be
	// a string or an integer. Default: sub.
	Subject string `json:"subject,omitempty"`

	// The claim that holds the time of sign-in, as seconds since 1970. Auth.js
	// makes `iat` anew at every session poll; a claim that the app sets once,
	// at sign-in, makes `created_at` and `valid_after` stricter. Default: iat.
	IssuedAt string `json:"issued_at,omitempty"`

	// The sign-in page that people are sent to: a path, or a URL. It is given
	// `callbackUrl` and `error=SessionRequired`, unless it has such parameters
	// already. Default: `signin` below the auth routes, usually
	// /api/auth/signin, which forwards to a page of the app's own.
	SignIn string `json:"sign_in,omitempty"`

	// The path on which a POST clears the caller's session cookies, or `off`.
	// Default: `clear-session` below the auth routes, usually
	// /api/auth/clear-session.
	ClearPath string `json:"clear_path,omitempty"`

	// Where else a stale session is taken off the request: `auth` (the sign-in
	// page and the auth routes), `all` (every route that is not guarded) or
	// `off`. Default: auth.
	Scrub string `json:"scrub,omitempty"`

	// How a stale session is answered on guarded routes: `auto` (a redirect for
	// people who navigate, else a 401), `redirect`, `json` or `error` (an error
	// with status 401 for `handle_errors`, the cookies cleared all the same).
	// Default: auto.
	Respond string `json:"respond,omitempty"`

	// What is done: `enforce`, `observe` (log and count only) or `off`.
	// Default: {env.STALE_SESSION_MODE}, else enforce.
	Mode string `json:"mode,omitempty"`

	// What is done on guarded routes with a session that could not be checked:
	// `allow` lets it pass, `deny` answers 503. Default: allow.
	OnError string `json:"on_error,omitempty"`

	// Answer requests on guarded routes that have no session, or one that
	// cannot be read or is expired, as if it were stale. Default: false, they
	// pass on to the app as they came.
	RequireSession bool `json:"require_session,omitempty"`

	// How accounts are cached.
	Cache *Cache `json:"cache,omitempty"`

	// How long a request waits for the database, at most. Default: 500ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	mode      string
	rules     scope.Rules
	validator *validator
	responder *answer.Responder
	reporter  *telemetry.Reporter
	held      []func() error
}

// Users names the users table and its columns. A column that is not named is
// used when it has a well-known name and type. Names are exact: upper and lower
// case differ.
type Users struct {
	// The table, with its schema if it needs one: `User`, `auth.users`,
	// `"my.schema"."User"`. Default: found in the database.
	Table string `json:"table,omitempty"`

	// The column that holds the subject. Default: id.
	ID string `json:"id,omitempty"`

	// The column that holds the time of creation. A token issued before it,
	// by more than a minute, is stale: its subject was an earlier row's.
	CreatedAt string `json:"created_at,omitempty"`

	// The column that holds the time before which no session of the user is
	// valid: a password change, a ban, a sign-out everywhere.
	ValidAfter string `json:"valid_after,omitempty"`

	// The columns that disable the user: a boolean that is true, a time that
	// has come, or an integer other than 0.
	Disabled []string `json:"disabled,omitempty"`

	// Claims that have to equal columns: claim path to column name.
	Match map[string]string `json:"match,omitempty"`
}

// Cache says how accounts are cached.
type Cache struct {
	// How long an account is used without asking the database again. Subjects
	// without a row are remembered for 5s at most. Default: 30s.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// How many accounts are held at most. Default: 100000.
	Size int `json:"size,omitempty"`
}

// What Handler.Mode can be.
const (
	modeEnforce = "enforce"
	modeObserve = "observe"
	modeOff     = "off"
)

// What Handler.OnError can be.
const (
	onErrorAllow = "allow"
	onErrorDeny  = "deny"
)

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.stale_session",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the handler up. It does no network I/O.
func (h *Handler) Provision(ctx caddy.Context) error {
	env := environment.New()
	h.mode = cmp.Or(env.Optional(cmp.Or(h.Mode, "{env.STALE_SESSION_MODE}")), modeEnforce)
	if h.mode == modeOff {
		return nil
	}
	if h.GuardedRaw != nil {
		matchers, err := ctx.LoadModule(h, "GuardedRaw")
		if err != nil {
			return fmt.Errorf("loading the matchers of guarded routes: %w", err)
		}
		if err := h.rules.Guarded.FromInterface(matchers); err != nil {
			return err
		}
	}
	if err := h.provisionAnswers(env); err != nil {
		return err
	}
	var err error
	if h.validator, err = h.newValidator(env); err != nil {
		return err
	}
	detections := telemetry.Detections{Logger: ctx.Logger(), Context: ctx, Mode: h.mode}
	if app, err := ctx.AppIfConfigured("events"); err == nil {
		detections.Events = app.(*caddyevents.App)
	}
	h.reporter = telemetry.NewReporter(detections, cmp.Or(h.Subject, session.DefaultSubject))
	return telemetry.Register(ctx.GetMetricsRegistry())
}

// provisionAnswers sets up on which routes and how stale sessions are answered.
func (h *Handler) provisionAnswers(env environment.Environment) error {
	authPath := env.AuthPath()
	signIn, err := env.Fill("sign_in", cmp.Or(h.SignIn, authPath+"/signin"))
	if err != nil {
		return err
	}
	page, err := url.Parse(signIn)
	if err != nil {
		return fmt.Errorf("sign_in: %w", err)
	}
	h.rules.AuthPath, h.rules.SignInPath, h.rules.Scrub = authPath, page.Path, cmp.Or(h.Scrub, scope.ScrubAuth)
	if h.rules.ClearPath = cmp.Or(h.ClearPath, authPath+"/clear-session"); h.ClearPath == "off" {
		h.rules.ClearPath = ""
	}
	names, err := env.FillAll("cookies", h.Cookies)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		names = session.DefaultCookieNames
	}
	domain, err := env.Fill("cookie_domain", h.CookieDomain)
	if err != nil {
		return err
	}
	h.responder, err = answer.New(answer.Config{
		SignIn: signIn, Respond: h.Respond, CookieNames: names, CookieDomain: domain,
	})
	return err
}

// Validate checks the options that are one of a few words, numbers and paths.
func (h *Handler) Validate() error {
	for _, option := range []struct {
		name, value string
		words       []string
	}{
		{"mode", h.mode, []string{modeEnforce, modeObserve, modeOff}},
		{"scrub", h.Scrub, []string{"", scope.ScrubAuth, scope.ScrubAll, scope.ScrubOff}},
		{"on_error", h.OnError, []string{"", onErrorAllow, onErrorDeny}},
	} {
		if !slices.Contains(option.words, option.value) {
			return fmt.Errorf("%s is %q; it can be one of %q", option.name, option.value, option.words)
		}
	}
	if h.Timeout < 0 || h.Cache != nil && (h.Cache.TTL < 0 || h.Cache.Size < 0) {
		return errors.New("timeout, and ttl and size of cache, must not be negative")
	}
	if h.ClearPath != "" && h.ClearPath != "off" && h.ClearPath[0] != '/' {
		return fmt.Errorf("clear_path is %q; it can be a path, which begins with a slash, or off", h.ClearPath)
	}
	return nil
}

// Cleanup gives back what Provision acquired.
func (h *Handler) Cleanup() error {
	var failures []error
	for _, release := range h.held {
		failures = append(failures, release())
	}
	h.held = nil
	return errors.Join(failures...)
}

// ServeHTTP checks the session of a request on its way to the app.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.mode == modeOff {
		return next.ServeHTTP(w, r)
	}
	route, err := h.rules.Of(r)
	switch {
	case err != nil:
		return err
	case route == scope.Clearing:
		return h.responder.ClearSession(w, r, h.validator.reader.Read(r.Header).Names)
	case route == scope.Passed:
		return next.ServeHTTP(w, r)
	case route == scope.Guarded && answer.Preflight(r): // it asks for nothing, but may be made by hand
		route = scope.Scrubbed
	}
	check := h.validator.validate(r)
	h.reporter.Checked(r, check, route.String())
	switch {
	case h.mode == modeObserve:
		return next.ServeHTTP(w, r)
	case route == scope.Guarded && h.ends(check):
		return h.responder.Stale(w, r, check.Ended)
	case route == scope.Guarded && h.OnError == onErrorDeny && check.Verdict == verdict.Unknown:
		w.Header().Set("Retry-After", "5")
		return caddyhttp.Error(http.StatusServiceUnavailable, errors.New("the session could not be checked"))
	case check.Strip:
		return h.scrub(w, r, next, check)
	case len(check.Session.Tokens) > 0:
		return h.guard(w, r, next, check)
	}
	return next.ServeHTTP(w, r)
}

// ends tells whether a request on a guarded route is answered as stale.
func (h *Handler) ends(check verdict.Check) bool {
	switch check.Verdict {
	case verdict.Stale:
		return true
	case verdict.Anonymous, verdict.Invalid:
		return h.RequireSession
	}
	return false
}

// scrub takes the session off the request, and clears its cookies in the
// response, except those that the app sets anew because somebody signed in.
func (h *Handler) scrub(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, check verdict.Check) error {
	h.validator.reader.Strip(r.Header)
	return h.mend(w, r, next, func(header http.Header) {
		set := h.validator.reader.ReadResponse(header)
		if stale := h.validator.stale(r, set.Tokens); stale != nil {
			h.drop(header, r, *stale, set.Names, check.Ended)
			return
		}
		h.responder.Clear(header, r, check.Ended, func(name string) bool { return slices.Contains(set.Names, name) })
	})
}

// guard passes on a session that may go on, and sees to it that the app does
// not renew it in the response once it has become stale meanwhile.
func (h *Handler) guard(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, check verdict.Check) error {
	return h.mend(w, r, next, func(header http.Header) {
		set := h.validator.reader.ReadResponse(header)
		stale := h.validator.stale(r, set.Tokens)
		if stale == nil && !h.rules.SigningIn(r) {
			stale = h.validator.stale(r, renewed(check.Session.Tokens, set.Tokens))
		}
		if stale != nil {
			h.drop(header, r, *stale, set.Names, check.Session.Names)
		}
	})
}

// mend calls the next handler, and fix just before the header of a response
// goes out.
func (h *Handler) mend(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, fix func(http.Header)) error {
	header := answer.OnHeader(w, func(header http.Header, _ int) { fix(header) })
	err := next.ServeHTTP(header, r)
	header.Done()
	return err
}

// drop takes a stale session out of a response, and clears its cookies.
func (h *Handler) drop(header http.Header, r *http.Request, stale verdict.Judgement, set, sent []string) {
	h.reporter.Dropped(r, stale)
	h.validator.reader.StripSetCookies(header)
	h.responder.Clear(header, r, slices.Concat(set, sent), nil)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
