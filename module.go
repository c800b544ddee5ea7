// Package stalesession is a Caddy module that ends the sessions of users who
// no longer exist. It reads the session cookie of NextAuth v4, Auth.js v5 or
// any signed JWT, and checks its subject against the app's own Postgres.
package stalesession

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/admin"
	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cleanup"
	"github.com/seed-4adef13c/caddy-stale-session/internal/command"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/logout"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	_ "github.com/seed-4adef13c/caddy-stale-session/internal/redis" // registers its module
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
	telemetry.Observe(provision.Engines, provision.Readers, provision.Lists)
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

	// Where users are looked up, if not in Postgres. Default: the Postgres that
	// Database, Users, Query and ListenDatabase describe, which belong into the
	// module `postgres` otherwise.
	DirectoryRaw json.RawMessage `json:"directory,omitempty" caddy:"namespace=http.handlers.stale_session.directories inline_key=module"`

	postgres.DatabaseOptions
	accounts.LookupOptions

	// Which tokens are session tokens, and how they are read.
	session.TokenOptions

	scope.Routes
	answer.Answers

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
	BackchannelLogout *logout.Backchannel `json:"backchannel_logout,omitempty"`

	mode      string
	directory directories.Module
	logout    *logout.Endpoint // nil without BackchannelLogout
	rules     scope.Rules
	validator *validator
	responder *answer.Responder
	reporter  *telemetry.Reporter
	storage   certmagic.Storage
	resources provision.Resources
	lease     provision.Lease
}

// What Handler.Rescue and others can be.
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
		h.resources.Defer(admin.AddHandler(admin.Handler{Mode: h.mode}))
		return nil
	}
	var guarded caddyhttp.MatcherSets
	if h.GuardedRaw != nil {
		matchers, err := ctx.LoadModule(h, "GuardedRaw")
		if err != nil {
			return fmt.Errorf("loading the matchers of guarded routes: %w", err)
		}
		if err := guarded.FromInterface(matchers); err != nil {
			return err
		}
	}
	if err := h.provisionAnswers(env, guarded); err != nil {
		return err
	}
	if err := h.loadDirectory(ctx); err != nil {
		return err
	}
	h.storage = ctx.Storage()
	var err error
	if h.validator, err = h.newValidator(env, &h.lease.Resources); err != nil {
		return err
	}
	if err := h.resources.Cleanup(h.SessionCleanup, h.directory); err != nil {
		return err
	}
	if err := h.resources.Record(); err != nil {
		return err
	}
	if h.BackchannelLogout != nil {
		defaults := logout.Defaults{Issuer: h.Issuer, Audience: h.Audience, JWKS: h.JWKS}
		if h.logout, err = h.BackchannelLogout.Open(env, defaults, h.resources.KeySet); err != nil {
			return err
		}
	}
	detections := telemetry.Detections{Logger: ctx.Logger(), Context: ctx, Mode: h.mode}
	if app, err := ctx.AppIfConfigured("events"); err == nil {
		detections.Events = app.(*caddyevents.App)
	}
	if h.reporter, err = telemetry.NewReporter(detections, cmp.Or(h.Subject, session.DefaultSubject)); err != nil {
		return err
	}
	h.resources.Defer(h.reporter.Close)
	h.resources.Defer(admin.AddHandler(admin.Handler{
		Mode: h.mode, Accounts: h.validator.accounts, Reader: h.validator.reader, Revoked: h.validator.revoked, Judge: h.validator.judgeNow,
	}))
	return telemetry.Register(ctx.GetMetricsRegistry())
}

// provisionAnswers sets up on which routes and how stale sessions are answered.
func (h *Handler) provisionAnswers(env environment.Environment, guarded caddyhttp.MatcherSets) error {
	names, err := h.CookieNames(env)
	if err != nil {
		return err
	}
	if h.responder, err = answer.New(h.Answers, env, names); err != nil {
		return err
	}
	h.rules = scope.New(h.Routes, guarded, env.AuthPath(), h.responder.SignInPath())
	return nil
}

// Validate checks the options that are one of a few words, numbers and paths.
func (h *Handler) Validate() error {
	if err := directive.OneOf("mode", h.mode, modeEnforce, modeObserve, modeOff); err != nil || h.mode == modeOff {
		return err
	}
	return errors.Join(
		h.Routes.Validate(), h.Answers.Validate(),
		directive.OneOf("on_error", h.OnError, onErrorAllow, onErrorDeny),
		directive.OneOf("rescue", h.Rescue, "on", off),
	)
}

// Cleanup releases what Provision has acquired.
func (h *Handler) Cleanup() error { return errors.Join(h.resources.Release(), h.lease.End()) }

// byID reports whether sessions can be ended by the claims of sessionIDs.
func (h *Handler) byID() bool { return h.BackchannelLogout != nil }

// newValidator returns a validator, with what it shares with other handlers.
func (h *Handler) newValidator(env environment.Environment, resources *provision.Resources) (*validator, error) {
	config, err := h.LookupOptions.Config()
	if err != nil {
		return nil, err
	}
	config.Observer = telemetry.Directories{}
	config.Logger = func() *zap.Logger { return caddy.Log().Named("http.handlers.stale_session.directory") }
	v := &validator{timeout: cmp.Or(config.Timeout, accounts.DefaultTimeout), byID: h.byID()}
	if v.reader, err = h.reader(env, resources); err != nil {
		return nil, err
	}
	if v.accounts, err = resources.Accounts(h.directory, config); err != nil {
		return nil, err
	}
	v.revoked, err = resources.Revocations(h.Revocations, h.storage, v.accounts)
	return v, err
}

// acquire returns the validator, and the lease that keeps it in use. A request
// that arrives here after a reload has replaced the configuration, such as one
// that was held up on its way, gets one like it.
func (h *Handler) acquire() (*validator, *provision.Lease) {
	if h.lease.Acquire() {
		return h.validator, &h.lease
	}
	late := new(provision.Lease)
	late.Acquire()
	v, err := h.newValidator(environment.New(), &late.Resources)
	if err = errors.Join(err, late.End()); err != nil { // everything is released with the request's lease
		caddy.Log().Named("http.handlers.stale_session").Error("checking a request of a replaced configuration failed", zap.Error(err))
		v = h.validator // which knows nothing any more
	}
	return v, late
}

// reader acquires what reads the session cookies.
func (h *Handler) reader(env environment.Environment, resources *provision.Resources) (*session.Reader, error) {
	match := h.directory.MatchedClaims()
	if h.byID() {
		match = slices.Concat(match, sessionIDs)
	}
	tokens := 0
	if h.Cache != nil {
		tokens = h.Cache.Size // one for each account
	}
	return resources.Reader(env, h.TokenOptions, match, tokens)
}

// loadDirectory loads the module that looks users up.
func (h *Handler) loadDirectory(ctx caddy.Context) error {
	if len(h.DirectoryRaw) == 0 {
		h.directory = &postgres.Module{DatabaseOptions: h.DatabaseOptions}
		return nil
	}
	if h.DatabaseOptions != (postgres.DatabaseOptions{}) {
		return errors.New("database, users, query and listen_database belong into the block of `directory postgres` if there is a `directory`")
	}
	module, err := ctx.LoadModule(h, "DirectoryRaw")
	if err != nil {
		return fmt.Errorf("loading the directory: %w", err)
	}
	var ok bool
	if h.directory, ok = module.(directories.Module); !ok {
		return fmt.Errorf("the module %T is not a directory", module)
	}
	return nil
}

// describe returns what the commands need to know of a handler.
func describe(text []byte) (site command.Site, err error) {
	h := new(Handler)
	if err := json.Unmarshal(text, h); err != nil {
		return site, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := h.loadDirectory(ctx); err != nil {
		return site, err
	}
	return command.Site{
		Directory: h.directory, Unwatched: h.Poll == off, Revocations: h.Revocations, SignIn: h.SignIn,
		Reader: func() (*session.Reader, error) { return h.reader(environment.New(), new(provision.Resources)) },
	}, nil
}

// ServeHTTP checks the session of a request on its way to the app.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.mode == modeOff {
		return next.ServeHTTP(w, r)
	}
	if h.logout != nil && r.URL.Path == h.logout.Path {
		v, lease := h.acquire()
		defer lease.Release()
		revoked, err := h.logout.Serve(w, r, v.revoked.Revoke)
		h.reporter.Ended(h.logout.Path, revoked, err)
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
		route = scope.Stripped
	}
	x := &exchange{handler: h, request: r}
	x.validator, x.lease = h.acquire()
	defer x.end()
	x.validator.validate(r, &x.result)
	check := &x.check
	h.reporter.Checked(r, check, route.String())
	switch {
	case h.mode == modeObserve || check.Braked:
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

// exchange is one request and its response.
type exchange struct {
	result
	handler   *Handler
	request   *http.Request
	validator *validator
	lease     *provision.Lease // of what the validator uses, nil once it is released
	header    answer.HeaderWriter
	failure   error // of the answer that has replaced the app's
}

// end releases what the exchange uses. What the app streams for hours must not
// keep the connections of a replaced configuration open.
func (x *exchange) end() {
	if x.lease != nil {
		x.lease.Release()
		x.lease = nil
	}
}

// pass passes the request on, and intercepts the response.
func (x *exchange) pass(w http.ResponseWriter, next caddyhttp.Handler) error {
	x.header.ResponseWriter, x.header.Interceptor = w, x
	if err := next.ServeHTTP(&x.header, x.request); err != nil {
		x.header.Done()
		return err
	}
	x.header.Done()
	return x.failure
}

// Intercept keeps the app from renewing a session that has become stale meanwhile,
// and clears a stale one. A 5xx status may be due to such a session: then the
// answer is that to a stale session.
func (x *exchange) Intercept(header http.Header, status int) bool {
	defer x.end()
	h, r, v := x.handler, x.request, x.validator
	x.wait.Set(r.Context(), time.Now().Add(v.timeout)) // once more, now that the app has answered
	defer x.wait.End()
	if status >= http.StatusInternalServerError && x.rescue(header) {
		return true
	}
	if len(header["Set-Cookie"]) == 0 && !x.check.Strip {
		return false
	}
	signingIn := h.rules.SigningIn(r)
	var set session.Session
	v.reader.ReadResponse(header, &set)
	stale := v.stale(&x.wait, set.Tokens, time.Time{})
	sent := x.check.Ended
	if !x.check.Strip {
		sent = x.check.Session.Names
		if stale == nil && !signingIn {
			stale = v.stale(&x.wait, renewed(x.check.Session.Tokens, set.Tokens), time.Time{})
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
	stale := v.stale(&x.wait, x.check.Session.Tokens, time.Now())
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
	_ answer.Interceptor          = (*exchange)(nil)
)
