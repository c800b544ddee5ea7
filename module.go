// Package stalesession is a Caddy module that ends the sessions of users who
// no longer exist. It reads the session cookie of NextAuth v4, Auth.js v5 or
// any signed JWT, and checks its subject against the app's own Postgres.
package stalesession

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/admin"
	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cleanup"
	"github.com/seed-4adef13c/caddy-stale-session/internal/command"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/logout"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/scope"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

func init() {
	caddy.RegisterModule(new(Handler))
	command.Register(describe)
	admin.Register(provision.Recorded)
	telemetry.Observe(provision.Directories, provision.Readers, provision.Lists)
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

	// Where users are looked up, the first to be asked first: one that has an
	// account answers, and only the last can say that there is none. Default:
	// the Postgres that Database, Users, Query, Poll, ListenDatabase and Brake
	// describe, which stand in the module `postgres` otherwise.
	DirectoriesRaw []json.RawMessage `json:"directories,omitempty" caddy:"namespace=http.handlers.stale_session.directories inline_key=directory"`

	// The Postgres to look users up in, as a connection URL or a keyword/value
	// string; Prisma's URL parameters are understood. Use a placeholder
	// ({env.NAME} or {file./path}), so that the password is not part of the
	// configuration. Default: {env.DATABASE_URL}.
	Database string `json:"database,omitempty"`

	// The users table and its columns. Default: found in the database, for the
	// schemas of the Auth.js adapters, Prisma and Better Auth.
	Users *directories.Users `json:"users,omitempty"`

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

	// How often the database is asked whether anything was changed in it, from
	// 10ms to 10s, or `off`: a reset or a deleted user is noticed within that
	// time. It costs the database one query of some microseconds each, and a
	// connection. A database that is to fall asleep when nobody uses it needs
	// `off`; then a change is noticed when cached accounts have aged. Default:
	// 500ms.
	Poll string `json:"poll,omitempty"`

	// A second address of the same database for the connection that is told of
	// changes: the direct one, when Database is that of a transaction pooler
	// such as PgBouncer, through which notifications do not arrive. Default:
	// Database.
	ListenDatabase string `json:"listen_database,omitempty"`

	// Ends no session while more users than this are found gone at once.
	// Default: no such limit.
	Brake *directories.Brake `json:"brake,omitempty"`

	// What is done when the app answers a session that was found live with a
	// 5xx status: `on` looks the user up again, past the cache, and answers as
	// to a stale session if it is one by now. `off` does not. Default: on.
	Rescue string `json:"rescue,omitempty"`

	// Removes expired and orphaned rows of a table of sessions on a schedule.
	// Default: none are removed.
	SessionCleanup *cleanup.Cleanup `json:"cleanup,omitempty"`

	// Where sessions that were ended by hand, or by an identity provider, are
	// kept, so that all nodes of a fleet know of them. Default: the users'
	// Postgres, when `caddy stale-session install` was run for it, else Caddy's
	// storage.
	Revocations *revocation.Revocations `json:"revocations,omitempty"`

	// Lets an OpenID provider end sessions. Default: it cannot.
	BackchannelLogout *logout.BackchannelConfig `json:"backchannel_logout,omitempty"`

	// Lets others end sessions by signed messages. Default: they cannot.
	LogoutWebhook *logout.WebhookConfig `json:"logout_webhook,omitempty"`

	// How long a request waits for a lookup, at most, in a chain for that of each
	// directory. Default: 500ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	mode        string
	directories provision.Modules
	logouts     logout.Endpoints
	rules       scope.Rules
	validator   *validator
	responder   *answer.Responder
	reporter    *telemetry.Reporter
	storage     certmagic.Storage
	held        provision.Held
	lent        provision.Lent
}

// Cache says how accounts are cached.
type Cache struct {
	// How long an account is used without asking the database again. Subjects
	// without a row are remembered for 5s at most. Default: 30s.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// How many accounts are held, about. Each takes some 120 bytes when it is
	// used, and what its token says as many again. Default: 100000.
	Size int `json:"size,omitempty"`
}

// What Handler.Poll, Handler.Rescue and others can be.
const off = "off"

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
func (*Handler) CaddyModule() caddy.ModuleInfo {
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
		h.held.Keep(admin.AddHandler(admin.Handler{Mode: h.mode}))
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
	if err := h.loadDirectories(ctx); err != nil {
		return err
	}
	h.storage = ctx.Storage()
	var err error
	if h.validator, err = h.newValidator(env, &h.lent.Held); err != nil {
		return err
	}
	if err := h.held.Cleanup(h.SessionCleanup, h.directories, h.accounts()); err != nil {
		return err
	}
	if err := h.held.Record(); err != nil {
		return err
	}
	h.logouts, err = h.held.Logouts(env, provision.Logouts{
		Backchannel: h.BackchannelLogout, Webhook: h.LogoutWebhook,
		Issuer: h.Issuer, Audience: h.Audience, JWKS: h.JWKS,
	})
	if err != nil {
		return err
	}
	detections := telemetry.Detections{Logger: ctx.Logger(), Context: ctx, Mode: h.mode}
	if app, err := ctx.AppIfConfigured("events"); err == nil {
		detections.Events = app.(*caddyevents.App)
	}
	if h.reporter, err = telemetry.NewReporter(detections, cmp.Or(h.Subject, session.DefaultSubject)); err != nil {
		return err
	}
	h.held.Keep(h.reporter.Close)
	h.held.Keep(admin.AddHandler(admin.Handler{Mode: h.mode, Directory: h.validator.directory, Revoked: h.validator.revoked, Explain: h.validator.explain}))
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
	if h.rules.ClearPath = cmp.Or(h.ClearPath, authPath+"/clear-session"); h.ClearPath == off {
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
		{"scrub", h.Scrub, []string{scope.ScrubAuth, scope.ScrubAll, scope.ScrubOff}},
		{"on_error", h.OnError, []string{onErrorAllow, onErrorDeny}},
		{"rescue", h.Rescue, []string{"on", off}},
	} {
		if option.value != "" && !slices.Contains(option.words, option.value) {
			return fmt.Errorf("%s is %q; it can be one of %q", option.name, option.value, option.words)
		}
	}
	if h.Timeout < 0 || h.Cache != nil && (h.Cache.TTL < 0 || h.Cache.Size < 0) {
		return errors.New("timeout, and ttl and size of cache, must not be negative")
	}
	if h.ClearPath != "" && h.ClearPath != off && h.ClearPath[0] != '/' {
		return fmt.Errorf("clear_path is %q; it can be a path, which begins with a slash, or off", h.ClearPath)
	}
	return nil
}

// Cleanup gives back what Provision has taken.
func (h *Handler) Cleanup() error { return errors.Join(h.held.Release(), h.lent.Release()) }

// ServeHTTP checks the session of a request on its way to the app.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.mode == modeOff {
		return next.ServeHTTP(w, r)
	}
	if endpoint := h.logouts.At(r.URL.Path); endpoint != nil {
		v, lent := h.borrow()
		defer lent.Return()
		revoked, err := endpoint.Serve(w, r, v.revoked.Revoke)
		h.reporter.Ended(endpoint.Path, revoked, err)
		return nil
	}
	route, err := h.rules.Of(r)
	switch {
	case err != nil:
		return err
	case route == scope.Clearing:
		var s session.Session
		h.validator.reader.Read(r.Header, &s)
		cleared, err := h.responder.ClearSession(w, r, s.Names)
		if cleared {
			telemetry.Responded(telemetry.Clear)
		}
		return err
	case route == scope.Passed:
		return next.ServeHTTP(w, r)
	case route == scope.Guarded && answer.Preflight(r): // it asks for nothing, but may be made by hand
		route = scope.Scrubbed
	}
	x := &exchange{handler: h, request: r}
	x.validator, x.lent = h.borrow()
	defer x.end()
	x.validator.validate(r, x)
	check := &x.check
	h.reporter.Checked(r, check, route.String())
	switch {
	case h.mode == modeObserve || check.Held:
		x.end()
		return next.ServeHTTP(w, r)
	case route == scope.Guarded && h.ends(check.Verdict):
		telemetry.Responded(telemetry.Response(h.responder.Kind(r)))
		return h.responder.Stale(w, r, check.Ended)
	case route == scope.Guarded && h.OnError == onErrorDeny && check.Verdict == verdict.Unknown:
		telemetry.Responded(telemetry.Unavailable)
		w.Header().Set("Retry-After", "5")
		return caddyhttp.Error(http.StatusServiceUnavailable, errors.New("the session could not be checked"))
	case check.Strip:
		telemetry.Responded(telemetry.Scrub)
		x.validator.reader.Strip(r.Header)
		return x.pass(w, next)
	case len(check.Session.Tokens) > 0 || h.rules.SigningIn(r):
		return x.pass(w, next)
	}
	x.end()
	return next.ServeHTTP(w, r)
}

// ends tells whether a request on a guarded route is answered as stale.
func (h *Handler) ends(v verdict.Verdict) bool {
	switch v {
	case verdict.Stale:
		return true
	case verdict.Anonymous, verdict.Invalid:
		return h.RequireSession
	}
	return false
}

// exchange is one request and its response on their way.
type exchange struct {
	judged
	handler   *Handler
	request   *http.Request
	validator *validator
	lent      *provision.Lent // what the validator uses, nil when it is not needed any more
	header    answer.HeaderWriter
	failure   error // of the answer that has replaced the app's
}

// end gives back what the exchange uses. What the app streams for hours must
// not keep the connections of a former configuration open.
func (x *exchange) end() {
	if x.lent != nil {
		x.lent.Return()
		x.lent = nil
	}
}

// pass passes the request on, and mends the response.
func (x *exchange) pass(w http.ResponseWriter, next caddyhttp.Handler) error {
	x.header.ResponseWriter, x.header.Mender = w, x
	if err := next.ServeHTTP(&x.header, x.request); err != nil {
		x.header.Done()
		return err
	}
	x.header.Done()
	return x.failure
}

// Mend sees to it that the app does not renew a session that has become stale
// meanwhile, and that a stale one is cleared. A 5xx status may be the work of
// such a session: then the person is asked to sign in instead.
func (x *exchange) Mend(header http.Header, status int) bool {
	defer x.end()
	h, r, v := x.handler, x.request, x.validator
	if status >= http.StatusInternalServerError && x.rescue(header) {
		return true
	}
	if len(header["Set-Cookie"]) == 0 && !x.check.Strip {
		return false
	}
	signingIn := h.rules.SigningIn(r)
	var set session.Session
	v.reader.ReadResponse(header, &set)
	stale := v.stale(r, set.Tokens, time.Time{})
	sent := x.check.Ended
	if !x.check.Strip {
		sent = x.check.Session.Names
		if stale == nil && !signingIn {
			stale = v.stale(r, renewed(x.check.Session.Tokens, set.Tokens), time.Time{})
		}
	}
	switch {
	case stale != nil: // it must not reach the browser
		h.reporter.Dropped(r, *stale)
		v.reader.StripSetCookies(header)
		h.responder.Clear(header, r, slices.Concat(set.Names, sent), nil)
		return false
	case signingIn && len(set.Tokens) > 0:
		telemetry.SignedIn()
	}
	if x.check.Strip { // the cookies that the app sets are those of a new session
		h.responder.Clear(header, r, sent, func(name string) bool { return slices.Contains(set.Names, name) })
	}
	return false
}

// rescue answers in place of the app when its 5xx comes of a session that was
// live when it was judged, and is not any more.
func (x *exchange) rescue(header http.Header) bool {
	h, r, v := x.handler, x.request, x.validator
	if x.check.Verdict != verdict.Live {
		return false
	}
	telemetry.UpstreamFailed()
	if h.Rescue == off || h.rules.SignsIn(r.URL.Path) {
		return false
	}
	stale := v.stale(r, x.check.Session.Tokens, time.Now())
	if stale == nil {
		return false
	}
	h.reporter.Rescued(r, *stale)
	telemetry.Responded(telemetry.Response(h.responder.Kind(r)))
	v.reader.StripSetCookies(header)
	x.failure = h.responder.Replace(x.header.ResponseWriter, r, x.check.Session.Names)
	return true
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
	_ answer.Mender               = (*exchange)(nil)
)
